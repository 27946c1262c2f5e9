"""A cycle: what is done for all tasks together, by one process at a time, so that loads are seen whole.

Repair what got stuck, translate what others wrote, say whose turn comes when, and give each task to the best expert:
bounded statements under the fence of the lock (consumers/postgres/lease.py), each of which can be the last.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import msgspec
import structlog

from consumers.experts.roster import Roster
from consumers.experts.staff import Loads, Staff, colleagues
from consumers.postgres.database import Database
from consumers.postgres.lease import Lease
from consumers.postgres.queries import query
from consumers.runs.view import ends
from consumers.tasks.choice import best, burdened
from consumers.tasks.table import Tasks
from consumers.tasks.task import Ended, Task
from consumers.words.routing import router
from schemas.errors import ErrorInfo
from schemas.events import Metadata, RunFinished
from streams.connection import TROUBLE, Client
from streams.keys import Keys

RESOURCE = "tasks"
"""The lock's name; statements have it too."""
AT_ONCE, TO_ASSIGN = 5_000, 200
"""Rows that one statement changes; tasks that are assigned together."""

_log: Any = structlog.get_logger()


class Cycled(msgspec.Struct):
    """What a cycle did, in tasks: put right, translated, ranked, assigned, and ended since their runs had."""

    repaired: int = 0
    migrated: int = 0
    prioritised: int = 0
    assigned: int = 0
    settled: int = 0


class Staffing:
    """Who can be given tasks, and who is busy: the experts there are now, and their loads with all else."""

    def __init__(self, experts: Callable[[], Roster], loads: Loads) -> None:
        self._experts, self._loads = experts, loads

    def wanted(self, tasks: Sequence[Task]) -> list[str]:
        """Whom each task's run is to be published for: who was asked for, or a specialist who was found; "" for others.
        What agents and assistants get, the pipeline finds by itself, and knows more of it: rules, and who is near."""
        people = self._experts().experts

        def specialist(task: Task) -> str:
            found = people.get(task.assignee)
            return found.name if found and (task.capability or found.rank not in ("agent", "assistant")) else ""

        return [task.expert or specialist(task) for task in tasks]

    async def choose(self, rows: Sequence[Mapping[str, Any]], in_hand: Mapping[str, int]) -> list[str]:
        """An assignee for each of these tasks, in their order: what one gets, it has in hand for the next."""
        roster = self._experts()
        try:
            loads = await self._loads()
        except TROUBLE:
            loads = {}
        there, burden, chosen = colleagues(roster, loads), Counter(in_hand), list[str]()
        for row in rows:
            staff = Staff(burdened(there, burden), router(roster).claimed(row["goal"]))
            chosen.append(row["expert"] or best(row["goal"], row["capability"], staff))
            burden[chosen[-1]] += 1
            await anyio.lowlevel.checkpoint()  # long goals take some ms each
        return chosen


class Cycle:
    """One cycle after the other, each under the lock. `cancel` asks for a run's end, `seconds` is how long one may
    take, 0 for any time, `forgotten` after how long a task that was taken and not published is free again, and `keep`
    for how long the streams' server knows a run after its end."""

    def __init__(
        self,
        database: Database,
        client: Client,
        keys: Keys,
        lease: Lease,
        staffing: Staffing,
        cancel: Callable[[str], Awaitable[None]],
        seconds: float,
        forgotten: float,
        keep: float,
    ) -> None:
        self._database, self._client, self._keys = database, client, keys
        self._lease, self._staffing, self._cancel = lease, staffing, cancel
        self._seconds, self._forgotten, self._keep = seconds, forgotten, keep
        self._tasks = Tasks(database)

    async def run(self, *, look: bool = True) -> Cycled | float:
        """One cycle; or, where another process is at one, the seconds that its lock lasts at most. `look` at runs that
        are under way too. Raises LeaseLost, NotReachable, redis errors."""
        if wait := await self._lease.take():
            return wait
        done = Cycled()
        try:
            done.repaired = await self._step("task_repair", self._forgotten, self._keep)
            done.migrated = await self._all("task_migrate")
            done.prioritised = await self._all("task_prioritise")
            while assigned := await self._assign():
                done.assigned += assigned
            if look:
                done.settled = await self._look()
        finally:
            with anyio.CancelScope(shield=True):
                await self._lease.release()
        return done

    async def _step(self, name: str, *given: Any) -> int:
        await self._lease.renew()
        async with self._database.connection() as connection:
            return await connection.fetchval(query(name), self._lease.fence, *given)

    async def _all(self, name: str) -> int:
        total = 0
        while changed := await self._step(name, AT_ONCE):
            total += changed
        return total

    async def _assign(self) -> int:
        async with self._database.connection() as connection:
            rows = [dict(row) for row in await connection.fetch(query("task_unassigned"), TO_ASSIGN)]
            loads = await connection.fetch(query("task_loads")) if rows else []
        if not rows:
            return 0
        chosen = await self._staffing.choose(rows, {row["assignee"]: row["tasks"] for row in loads})
        return await self._step("task_assign", [row["id"] for row in rows], chosen)

    async def _look(self) -> int:
        """Look at all runs under way: settle those that ended or vanished, stop those that nobody wants or that take
        far too long. What vanished may have been done, and what is slow still be: only a person has it done again."""
        async with self._database.connection() as connection:
            rows = [dict(row) for row in await connection.fetch(query("task_running"))]
        known = await ends(self._client, self._keys, [row["run"] for row in rows])
        ended: list[Ended] = []
        for row in rows:
            run, now = row["run"], datetime.now(UTC)
            if end := known.get(run):
                ended.append(Ended.of(run, end, now))
            elif run not in known:
                ended.append(_from_rows(row) if row["at"] else Ended(run, "failed", now, error=LOST, again=False))
            elif row["seconds"] > 2 * self._seconds > 0:
                await self._cancel(run)
                ended.append(Ended(run, "failed", now, error=STUCK, again=False))
            elif row["cancel_asked"]:
                await self._cancel(run)
        await self._lease.renew()
        return await self._tasks.settle(ended, self._lease.fence)


LOST = ErrorInfo(
    "task.run_lost",
    "Its run is not known any more, neither to the streams' server nor to history: it may have been done.",
    "See whether it was; `victoria tasks retry` has it done again.",
)
STUCK = ErrorInfo(
    "task.stuck",
    "Its run did not end in twice its time, and is to be cancelled.",
    "`victoria status` of the run says why; `victoria tasks retry` has it done again.",
)


def _from_rows(row: Mapping[str, Any]) -> Ended:
    """The end of a run that is known only here any more."""
    end = RunFinished(
        status=row["status"],
        output=row["output"],
        method=row["method"],
        metadata=msgspec.convert(row["metadata"], Metadata),
        stages=(),
        error=msgspec.convert(row["error"], ErrorInfo | None),
    )
    return Ended.of(row["run"], end, row["at"])
