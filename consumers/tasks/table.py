"""The table of tasks, as people and workers use it: a function for each statement."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec

from consumers.postgres.database import Database, storable
from consumers.postgres.queries import query
from consumers.tasks.task import Ended, NewTask, Task
from schemas.errors import InvalidInput


class Tasks:
    """All tasks of an installation. Raises NotReachable while the database is away or lacks the table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tasks: Sequence[NewTask]) -> list[str]:
        """Put new ones on the table; their ids, without those that are there already."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(query("task_add"), _rows(tasks))
        return [row["id"] for row in rows]

    async def newest(self, status: str = "", limit: int = 20) -> list[Task]:
        """The newest ones, of one status or of any."""
        return await self._tasks("task_list", status, limit)

    async def show(self, task_id: str) -> Task:
        """One task. Raises InvalidInput `task.unknown`."""
        found = await self._tasks("task_show", task_id)
        if not found:
            raise InvalidInput(
                "task.unknown", f"There is no task {task_id[:80]!r}.", "`victoria tasks list` shows them."
            )
        return found[0]

    async def cancel(self, task_id: str) -> Task:
        """Say that a task is not wanted any more: it is cancelled, or, while its run is under way, to be cancelled by
        the run's end, for which the caller asks. Raises InvalidInput `task.unknown`, `task.over`."""
        return await self._changed("task_cancel", task_id, "It can't be cancelled any more.")

    async def retry(self, task_id: str) -> Task:
        """Have one that failed or was cancelled done anew. Raises InvalidInput `task.unknown`, `task.over`."""
        return await self._changed("task_retry", task_id, "Only what failed or was cancelled is tried again.")

    async def claim(self, worker: str, under_way: int, batch: int) -> int:
        """Give the worker those whose turn it is; how many."""
        async with self._database.connection() as connection:
            return await connection.fetchval(query("task_claim"), worker, under_way, batch)

    async def claimed(self, worker: str) -> list[Task]:
        """What the worker has taken and not published yet."""
        return await self._tasks("task_claimed", worker)

    async def published(self, runs: Sequence[str]) -> list[str]:
        """Runs are on their stream. Those that nobody wants any more."""
        async with self._database.connection() as connection:
            return [row["run"] for row in await connection.fetch(query("task_published"), runs)]

    async def settle(self, ended: Sequence[Ended], fence: int | None = None) -> int:
        """Write how runs ended to the tasks that wait for them; of how many. Again, it changes nothing."""
        if not ended:
            return 0
        async with self._database.connection() as connection:
            return await connection.fetchval(query("task_settle"), _rows(ended), fence)

    @asynccontextmanager
    async def listening(self, heard: Callable[[str], None]) -> AsyncGenerator[anyio.Event]:
        """Inside, `heard` is called with the status of each task that waits for something from now on, and with
        `ended <id>` for each that ends. The event is set when nothing can be heard any more."""
        deaf = anyio.Event()

        def hear(_connection: object, _process: int, _channel: str, payload: object) -> None:
            heard(str(payload))

        def lost(_connection: object) -> None:
            deaf.set()

        async with self._database.connection() as connection:
            channel: str = await connection.fetchval(query("task_channel"))
            await connection.add_listener(channel, hear)
            connection.add_termination_listener(lost)
            try:
                yield deaf
            finally:
                if not connection.is_closed():
                    connection.remove_termination_listener(lost)
                    with anyio.CancelScope(shield=True):
                        await connection.remove_listener(channel, hear)

    async def _tasks(self, name: str, *given: Any) -> list[Task]:
        async with self._database.connection() as connection:
            return [msgspec.convert(dict(row), Task) for row in await connection.fetch(query(name), *given)]

    async def _changed(self, name: str, task_id: str, why: str) -> Task:
        found = await self._tasks(name, task_id)
        if not found:
            task = await self.show(task_id)
            raise InvalidInput("task.over", f"The task is {task.status}.", why)
        return found[0]


def _rows(structs: Sequence[msgspec.Struct]) -> bytes:
    return storable(msgspec.json.encode(structs))
