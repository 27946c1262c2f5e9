"""How often somebody may call, over all doors of one server: the counts are there."""

import asyncio
from math import ceil
from time import time
from typing import Any

from limits import parse
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter

from schemas.errors import Overloaded
from streams.connection import TROUBLE, Client
from streams.keys import Keys

ANSWER_WITHIN = 1.0
"""Seconds after which a server that does not count is not waited for."""
REMEMBERED = 10_000
"""Of so many callers at most a door remembers that their rate is used up."""


class Rates:
    """Counts requests: of each caller so many in a window, which begins with the first. `rate` is `600/minute`, or
    "none".

    While the server is away nothing is counted, nor refused: the pages say themselves that it is.
    """

    def __init__(self, client: Client, keys: Keys, rate: str) -> None:
        self._rate = rate
        self._most = None if rate == "none" else parse(rate)
        self._limiter = FixedWindowRateLimiter(_Counts(client, keys))
        self._used_up: dict[str, float] = {}

    async def take(self, who: str) -> None:
        """Count one more. Raises Overloaded `http.rate`; until the window's end the server is not asked again."""
        if self._most is None:
            return
        until = self._used_up.get(who, 0.0)
        if until <= time():
            self._used_up.pop(who, None)
            try:
                async with asyncio.timeout(ANSWER_WITHIN):
                    if await self._limiter.hit(self._most, who):
                        return
                    until = (await self._limiter.get_window_stats(self._most, who)).reset_time
            except TROUBLE:
                return
            if len(self._used_up) >= REMEMBERED:
                self._used_up.clear()
            self._used_up[who] = until
        wait = max(ceil(until - time()), 1)
        raise Overloaded(
            "http.rate", f"More than {self._rate} requests of yours came.", f"Go on in {wait} s.", float(wait)
        )


class _Counts(Storage):
    """The library's counts by our client, which knows clusters: each is a string that expires."""

    STORAGE_SCHEME = None

    def __init__(self, client: Client, keys: Keys) -> None:
        super().__init__()
        self._client: Any = client
        self._keys = keys

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return TROUBLE

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        # In one transaction, since a key that expired between the two would count for ever.
        both = self._client.pipeline(transaction=True)
        both.set(self._keys.rate(key), 0, ex=expiry, nx=True)
        both.incrby(self._keys.rate(key), amount)
        return (await both.execute())[1]

    async def get(self, key: str) -> int:
        return int(await self._client.get(self._keys.rate(key)) or 0)

    async def get_expiry(self, key: str) -> float:
        return time() + max(await self._client.pttl(self._keys.rate(key)), 0) / 1000

    async def check(self) -> bool:
        return bool(await self._client.ping())

    async def reset(self) -> int | None:
        raise RuntimeError("All counts at once are never forgotten.")

    async def clear(self, key: str) -> None:
        await self._client.delete(self._keys.rate(key))
