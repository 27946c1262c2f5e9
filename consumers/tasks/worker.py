"""The worker for tasks: takes assigned ones, has the pipeline carry them out, and writes back how their runs ended.

Any number work side by side; in turn they also look after the whole table (cycle.py). Taking is a statement that
skips what another one has in its hands, and says which attempt it is; the run's id follows from that. So a task that
was taken and perhaps published, by a worker that died over it, is taken and published again as the same run, which
changes nothing where it had been. Ends are heard on the results streams; those that nobody heard, a cycle finds.
"""

import asyncio
import os
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import anyio
import structlog
from anyio.abc import TaskStatus
from asyncpg import PostgresError
from msgspec.structs import replace

from consumers.intake import goal_submitted
from consumers.postgres.lease import LeaseLost
from consumers.tasks.cycle import Cycle, Cycled, Staffing
from consumers.tasks.table import Tasks
from consumers.tasks.task import Ended, Task
from schemas.errors import InvalidInput, NotReachable, Overloaded, Published
from schemas.events import GoalSubmitted, RunFinished
from streams.connection import TROUBLE, Client
from streams.follow import Seen, follow, last_id
from streams.keys import Keys

NAME = "tasks"
BATCH = 64
"""Tasks that are taken and published together."""
EVERY, LOOK, PAUSE = 1.0, 5.0, 0.5
"""Seconds between rounds where nothing is heard; between looks at runs under way; after trouble."""

Submit = Callable[[Sequence[tuple[str, GoalSubmitted]]], Awaitable[list[Published]]]
"""Publishes (run id, goal) pairs, each once however often it is tried. Raises Overloaded, NotReachable."""

_RUN = re.compile(r"[0-9A-Za-z_.-]{1,60}-[1-9][0-9]{0,9}")
"""What can be the run of a task."""

_log: Any = structlog.get_logger()


def worker_name() -> str:
    """Of this process's worker, for people and for the table: it has none that another one had."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"


class Publishing:
    """Takes tasks and publishes their runs, as the worker `name`; no more than `under_way` of all workers together."""

    def __init__(
        self,
        tasks: Tasks,
        name: str,
        staffing: Staffing,
        submit: Submit,
        cancel: Callable[[str], Awaitable[None]],
        under_way: int,
    ) -> None:
        self._tasks, self._name, self._staffing = tasks, name, staffing
        self._submit, self._cancel, self._under_way = submit, cancel, under_way

    async def publish_due(self) -> int:
        """Publish those whose turn it is, as long as there is room; how many. Raises NotReachable, Overloaded; what is
        taken by then is published next time."""
        done = 0
        while await self._tasks.claim(self._name, self._under_way, BATCH):
            done += await self.publish_claimed()
        return done

    async def publish_claimed(self) -> int:
        """Publish what was taken and not published; how many. Raises as `publish_due` does."""
        return await self._publish(mine) if (mine := await self._tasks.claimed(self._name)) else 0

    async def _publish(self, mine: Sequence[Task]) -> int:
        goals: list[tuple[str, GoalSubmitted]] = []
        refused: list[Ended] = []
        for task, expert in zip(mine, self._staffing.wanted(mine), strict=True):
            try:
                goal = goal_submitted(task.goal, task.project, setting=task.context)
                goals.append((task.run, replace(goal, expert=expert, cache="off")))  # it is to be done, each time
            except InvalidInput as problem:
                refused.append(Ended(task.run, "failed", datetime.now(UTC), error=problem.info, again=False))
        await self._tasks.settle(refused)
        full: Overloaded | None = None
        try:
            results = await self._submit(goals)
        except Overloaded as overloaded:
            full, results = overloaded, overloaded.results
        there = [run for (run, _), result in zip(goals, results, strict=True) if result != "refused"]
        for run in await self._tasks.published(there):
            await self._cancel(run)
        if full:
            raise full
        return len(there)


class TaskWorker:
    """A worker for tasks. `run` until `stop`."""

    def __init__(self, tasks: Tasks, cycle: Cycle, publishing: Publishing, client: Client, keys: Keys) -> None:
        self._tasks, self._cycle, self._publishing = tasks, cycle, publishing
        self._client, self._keys = client, keys
        self._bells = (asyncio.Event(), asyncio.Event())
        self._stop = anyio.Event()

    def stop(self) -> None:
        """Begin nothing more, and return from `run`: what is under way goes on without it."""
        self._stop.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until `stop`; trouble with either server is waited out. Raises redis errors only at first."""
        streams = [self._keys.stream(partition, "results") for partition in self._keys.of_stream("results")]
        cursors = {stream: await last_id(self._client, stream) for stream in streams}
        task_status.started()
        async with anyio.create_task_group() as working:
            working.start_soon(self._again_and_again, self._listen)
            working.start_soon(self._again_and_again, self._look_after, self._bells[0])
            working.start_soon(self._again_and_again, self._carry_out, self._bells[1])
            working.start_soon(self._again_and_again, self._follow, cursors)
            try:
                await self._stop.wait()
            finally:
                self._stop.set()
                for bell in self._bells:
                    bell.set()
                working.cancel_scope.cancel()

    async def _again_and_again(self, work: Callable[..., Awaitable[None]], *given: Any) -> None:
        told = ""
        while not self._stop.is_set():
            try:
                # A statement is not left in its midst, nor a connection: each work ends when it sees that all is to.
                with anyio.CancelScope(shield=True):
                    await work(*given)
            except* (NotReachable, Overloaded, LeaseLost, PostgresError, *TROUBLE) as problems:
                if (problem := str(problems.exceptions[0])) != told:
                    _log.warning("tasks.trouble", doing=work.__name__.strip("_"), error=problem)
                told = problem
                await anyio.sleep(PAUSE)

    async def _listen(self) -> None:
        """Ring as soon as there is something to do, or room for it."""

        def ring(heard: str) -> None:
            assigned = heard == "assigned" or heard.startswith("ended ")
            self._bells[assigned].set()

        async with self._tasks.listening(ring) as deaf:
            await _either(deaf, self._stop)
        await anyio.sleep(PAUSE)

    async def _look_after(self, bell: asyncio.Event) -> None:
        """Cycles, one after the other, whenever it is rung, or another one's lock is over."""
        looked = -LOOK
        while not self._stop.is_set():
            bell.clear()
            look = anyio.current_time() > looked + LOOK
            done = await self._cycle.run(look=look)
            if isinstance(done, Cycled) and look:
                looked = anyio.current_time()
            await _rung(bell, EVERY if isinstance(done, Cycled) else min(EVERY, done))

    async def _carry_out(self, bell: asyncio.Event) -> None:
        while not self._stop.is_set():
            bell.clear()
            await self._publishing.publish_claimed()
            await self._publishing.publish_due()
            await _rung(bell, EVERY)

    async def _follow(self, cursors: dict[str, str]) -> None:
        """Write back how runs ended: all workers do for all, so that it is no matter who is there."""
        async with aclosing(follow(self._client, cursors)) as batches:
            async for batch in batches:  # an empty one at least each second
                ended = [each for seen in batch if (each := _ended(seen))]
                cursors |= {seen.stream: seen.id for seen in batch}
                await self._tasks.settle(ended)
                if self._stop.is_set():
                    return


def _ended(seen: Seen) -> Ended | None:
    envelope = seen.envelope
    if envelope and isinstance(envelope.body, RunFinished) and _RUN.fullmatch(envelope.run):
        return Ended.of(envelope.run, envelope.body, envelope.at)
    return None


async def _rung(bell: asyncio.Event, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await bell.wait()


async def _either(*events: anyio.Event) -> None:
    """Wait for the first of these."""
    async with anyio.create_task_group() as waiting:

        async def wait(event: anyio.Event) -> None:
            await event.wait()
            waiting.cancel_scope.cancel()

        for event in events:
            waiting.start_soon(wait, event)
