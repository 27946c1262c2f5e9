"""Settling: all that became of handled entries, carried out by one script call for a whole batch.

A settler takes whatever has been handled while its last call was under way: under load calls are big, when idle
nothing waits.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter

from streams.connection import TROUBLE
from streams.scripts import Scripts
from streams.settlement import Handled, Settlement

SETTLE_AT_MOST = 256
"""Entries in one script call, which blocks the server for about 1 ms."""
SETTLE_BYTES = 16 * 1024 * 1024
"""Bytes to be written after which a call takes no more entries."""
UNSETTLED_AT_MOST = 4 * SETTLE_AT_MOST
"""Handled entries that may wait for the server before no more are read."""


class Settler:
    """Settles one partition's entries. `settled` hears of each batch and its seconds; `trouble` waits after one."""

    def __init__(
        self,
        settlement: Settlement,
        scripts: Scripts,
        settled: Callable[[Sequence[Handled], list[int], float], None],
        trouble: Callable[[Exception], Awaitable[None]],
    ) -> None:
        self._settlement, self._scripts, self._settled, self._trouble = settlement, scripts, settled, trouble
        self._waiting: list[Handled] = []
        self._some, self._few = asyncio.Event(), asyncio.Event()

    def add(self, handled: Handled) -> None:
        """Settle it soon."""
        if not self._waiting:
            self._some.set()
        self._waiting.append(handled)

    async def few(self) -> None:
        """Wait while too many are unsettled."""
        while len(self._waiting) > UNSETTLED_AT_MOST:
            self._few.clear()
            await self._few.wait()

    async def run(self) -> None:
        """Settle what is added, until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            while batch := self._batch():
                began = perf_counter()
                results = await self._settle(batch)
                self._settled(batch, results, perf_counter() - began)
                self._few.set()

    def _batch(self) -> list[Handled]:
        count, size = 0, 0
        for handled in self._waiting[:SETTLE_AT_MOST]:
            count += 1
            size += handled.size
            if size > SETTLE_BYTES:
                break
        batch = self._waiting[:count]
        del self._waiting[:count]
        return batch

    async def _settle(self, batch: Sequence[Handled]) -> list[int]:
        keys, args = self._settlement.of(batch)
        while True:
            try:
                return await self._scripts.settle(keys, args)
            except TROUBLE as problem:
                await self._trouble(problem)
