"""Look-ups of many who ask at once, in few calls."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

AT_ONCE = 100
"""Ids in one call."""


class Gathered(Generic[T]):
    """Looks up by id. While one call is under way the next ids gather; when idle, one is looked up at once."""

    def __init__(self, look_up: Callable[[Sequence[str]], Awaitable[Sequence[T]]]) -> None:
        self._look_up = look_up
        self._waiting: list[tuple[str, asyncio.Future[T]]] = []
        self._looking: asyncio.Task[None] | None = None

    async def of(self, key: str) -> T:
        """What is found of an id. Raises what the call raises."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[T] = loop.create_future()
        self._waiting.append((key, found))
        if self._looking is None:
            self._looking = loop.create_task(self._look())
        return await found

    async def _look(self) -> None:
        part: list[tuple[str, asyncio.Future[T]]] = []
        try:
            while part := self._waiting[:AT_ONCE]:
                del self._waiting[:AT_ONCE]
                try:
                    results = await self._look_up([key for key, _ in part])
                except Exception as problem:
                    for _, found in part:
                        if not found.done():  # nobody else is there to hear of it
                            found.set_exception(problem)
                else:
                    for (_, found), result in zip(part, results, strict=True):
                        if not found.done():
                            found.set_result(result)
        finally:
            self._looking = None
            for _, found in (*part, *self._waiting):  # where this was cancelled; else all have what they wait for
                found.cancel()
