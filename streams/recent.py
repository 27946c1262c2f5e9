"""What was found a moment ago, for all who ask: however many do, one looks."""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """What the last look found, and since when that is known."""

    def __init__(self, look: Callable[[], Awaitable[T]]) -> None:
        self._look = look
        self._found: T
        self._at = -inf
        self._looking: asyncio.Task[None] | None = None

    @property
    def at(self) -> float:
        """When the last look that found something began, by time.monotonic; before all time where none did."""
        return self._at

    async def within(self, seconds: float) -> T:
        """What a look found that began at most so many seconds ago, another one where there is none. Raises what that
        raises."""
        oldest = monotonic() - seconds
        while self._at < oldest:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look_again())
                self._looking.add_done_callback(_looked)
            await asyncio.shield(self._looking)  # it goes on for others when who began it goes away
        return self._found

    async def _look_again(self) -> None:
        began = monotonic()
        try:
            self._found = await self._look()
            self._at = began
        finally:
            self._looking = (
                None  # here, not in a callback: who asks before that is called would find a look that is over
            )


def _looked(looking: asyncio.Task[None]) -> None:
    if not looking.cancelled():
        looking.exception()  # those who wait have it, if there are any left
