"""Works that other agents wait for at our door: they go on only while somebody waits, whoever of the two was killed.

Who gave a work away and hears nothing of it any more does it itself; going on with it here would do it twice.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import structlog
from anyio.abc import TaskStatus

from schemas.envelope import UNREADABLE
from schemas.events import CancelRequested
from streams.append import Publisher
from streams.connection import TROUBLE, Client, server_ms
from streams.keys import Keys
from streams.worker import is_gone, process_name

LEASE, SIGN_EVERY = 10.0, 2.0
"""Seconds for which a door's sign that somebody waits counts, and between two of them."""
GRACE = 30.0
"""Seconds in which who went away may come back: a worker that was killed asks again by the next one."""
LOOK_EVERY = 1.0
"""Seconds between looks for works that nobody waits for."""
GOES_ON = -1
"""The time to live that the server tells of a run that has not ended."""

_log: Any = structlog.get_logger()


class Sign(msgspec.Struct, frozen=True):
    """Somebody waits until then, ms by the server's clock, at the door of that process."""

    until: int
    door: str


class Waited:
    """Keeps signs of who waits, for runs whose cancelling is asked for on the stream `cancels`."""

    def __init__(self, client: Client, keys: Keys, publisher: Publisher, cancels: str) -> None:
        self._client: Any = client
        self._keys, self._publisher, self._cancels = keys, publisher, cancels
        self._door = process_name()

    @asynccontextmanager
    async def waiting(self, run_id: str) -> AsyncGenerator[None]:
        """Inside, somebody waits for the run; begin before it is published. Raises redis errors at the start."""
        await self.sign(run_id)
        signing = asyncio.create_task(self._keep_signing(run_id))
        try:
            yield
        finally:
            signing.cancel()

    async def sign(self, run_id: str, seconds: float = LEASE) -> None:
        """Let somebody count as waiting for so long. Raises redis errors."""
        until = await server_ms(self._client) + int(seconds * 1000)
        await self._client.hset(self._key(run_id), run_id, msgspec.json.encode(Sign(until, self._door)))

    async def forget(self, run_id: str) -> None:
        """Nobody need wait any more: the run has ended, or there is none. Raises redis errors."""
        await self._client.hdel(self._key(run_id), run_id)

    async def watch(self, consumer: str, *, task_status: TaskStatus[None]) -> None:
        """Have runs end that nobody waits for. See streams.worker.Companion: the first look comes before anything is
        read, so that what a killed process left is not begun again."""
        first = True
        while True:
            try:
                for partition in self._keys.of_stream(self._cancels):
                    await self._look(partition)
            except TROUBLE as problem:
                _log.warning("waited.not_looked", worker=consumer, error=str(problem))
            if first:
                task_status.started()
            first = False
            await anyio.sleep(LOOK_EVERY)

    async def _keep_signing(self, run_id: str) -> None:
        while True:
            await asyncio.sleep(SIGN_EVERY)
            try:
                await self.sign(run_id)
            except TROUBLE as problem:
                _log.warning("waited.not_signed", run=run_id, error=str(problem))

    async def _look(self, partition: str) -> None:
        key = self._keys.waited(partition)
        if not (signs := await self._client.hgetall(key)):
            return
        now = await server_ms(self._client)
        for field, data in signs.items():
            run_id = field.decode(errors="replace")
            if not _holds(data, now):
                if await self._client.pttl(self._keys.run(partition, run_id)) == GOES_ON:
                    _log.info("waited.ended", run=run_id)
                    why = "The agent whose work it is does not wait for it any more."
                    await self._publisher.add(run_id, CancelRequested(reason=why), self._cancels)
                await self._client.hdel(key, field)

    def _key(self, run_id: str) -> str:
        return self._keys.waited(self._keys.of_run(run_id))


def _holds(data: bytes, now: int) -> bool:
    """Whether a sign still counts: that of a process of this machine ends with it."""
    try:
        sign = msgspec.json.decode(data, type=Sign)
    except UNREADABLE:
        return False
    return sign.until > now and not is_gone(sign.door)
