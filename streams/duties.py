"""What every worker does beside its stages: keep its leases, take over from the dead, bring back what was delayed."""

from typing import Any

import anyio
import msgspec
import structlog

from schemas.errors import ErrorInfo
from streams.connection import TROUBLE
from streams.entry import LOST
from streams.hop import Hop
from streams.keys import Keys
from streams.outcome import DeadLetter
from streams.scripts import Scripts

PROMOTE_EVERY = 0.25
"""Seconds between looks for delayed entries that are due."""
PROMOTE_AT_MOST = 500
RECLAIM_AT_MOST = 100

GARBLED = ErrorInfo("entry.garbled", "What waited for its retry is no entry.", "Somebody wrote there by hand.")

_log: Any = structlog.get_logger()


class Duties:
    """The duties of one stage in one worker. `lease` is seconds a consumer counts as alive without a sign."""

    def __init__(self, hop: Hop, keys: Keys, scripts: Scripts, lease: float) -> None:
        self._hop, self._keys, self._scripts, self._lease = hop, keys, scripts, lease

    async def start(self) -> None:
        """What must hold before the first read: the consumer counts as alive."""
        for partition in self._hop.partitions:
            await self._keep_lease(partition)

    async def run(self) -> None:
        """Do the duties until cancelled. Each is repeated after trouble; none ends a worker."""
        async with anyio.create_task_group() as tasks:
            for partition in self._hop.partitions:
                tasks.start_soon(self._every, self._lease / 3, self._keep_lease, partition)
                tasks.start_soon(self._every, self._lease / 3, self._reclaim, partition)
                tasks.start_soon(self._every, PROMOTE_EVERY, self._promote, partition)

    async def stop(self) -> None:
        """Give the leases up: what is left in hand may be taken over at once."""
        stage = self._hop.stage
        for partition in self._hop.partitions:
            left = await self._scripts.leave(
                self._keys.stream(partition, stage.reads),
                self._keys.leases(partition, stage.name),
                stage.name,
                self._hop.consumer,
            )
            if left:
                _log.info("worker.left_behind", stage=stage.name, entries=left)

    async def _every(self, seconds: float, duty: Any, partition: str) -> None:
        while True:
            try:
                await duty(partition)
            except TROUBLE as problem:
                _log.warning("duty.failed", stage=self._hop.stage.name, error=str(problem))
            await anyio.sleep(seconds)

    async def _keep_lease(self, partition: str) -> None:
        await self._scripts.lease(self._keys.leases(partition, self._hop.stage.name), self._hop.consumer, self._lease)

    async def _promote(self, partition: str) -> None:
        stream = self._hop.stage.reads
        letter = DeadLetter(stage=self._hop.stage.name, stream=stream, entry="delayed", error=GARBLED)
        await self._scripts.promote(
            self._keys.delayed(partition, stream),
            self._keys.stream(partition, stream),
            self._keys.dead(partition),
            PROMOTE_AT_MOST,
            msgspec.json.encode(letter),
        )

    async def _reclaim(self, partition: str) -> None:
        stage = self._hop.stage
        while True:
            room = min(await self._hop.has_room(), self._hop.fitting(RECLAIM_AT_MOST))
            if self._hop.stopping:
                return
            reclaimed = await self._scripts.reclaim(
                self._keys.stream(partition, stage.reads),
                self._keys.leases(partition, stage.name),
                self._keys.dead(partition),
                stage.name,
                self._hop.consumer,
                room,
                msgspec.json.encode(DeadLetter(stage=stage.name, stream=stage.reads, entry="ENTRY", error=LOST)),
            )
            if reclaimed.entries or reclaimed.lost:
                _log.info("worker.reclaimed", stage=stage.name, entries=len(reclaimed.entries), lost=reclaimed.lost)
            for (entry_id, flat), deliveries in zip(reclaimed.entries, reclaimed.deliveries, strict=True):
                self._hop.receive(partition, entry_id, flat, deliveries + 1)
            self._hop.weigh(flat for _, flat in reclaimed.entries)
            if len(reclaimed.entries) < room:
                return
