"""Requests of many in few calls: what is asked for while a call is under way goes with the next one, all together.

Many requests at once then need few calls, and one that comes when nothing is under way leaves at once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from math import inf
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


def _weightless(_request: object) -> int:
    return 0


class Gathered(Generic[K, T]):
    """One kind of call. It takes up to `at_once` requests, fewer once their `size` in all reaches `most`, and gives a
    result for each, or an error for that one alone. With `give_up` it is cancelled when nobody waits for it any more;
    otherwise it goes on, since what it writes may be of something that has been done."""

    def __init__(
        self,
        call: Callable[[Sequence[K]], Awaitable[Sequence[T | Exception]]],
        at_once: int,
        size: Callable[[K], int] = _weightless,
        most: float = inf,
        *,
        give_up: bool = False,
    ) -> None:
        self._call, self._at_once, self._size, self._most, self._give_up = call, at_once, size, most, give_up
        self._waiting: deque[tuple[K, asyncio.Future[T]]] = deque()
        self._part: list[tuple[K, asyncio.Future[T]]] = []
        """What is under way."""
        self._calling: asyncio.Task[None] | None = None

    def ask(self, request: K) -> asyncio.Future[T]:
        """The result of a request, which raises what the call does. Who stops waiting before the call has begun is
        passed over."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        if self._give_up:
            result.add_done_callback(self._left)
        self._waiting.append((request, result))
        if self._calling is None:
            self._calling = loop.create_task(self._work())
        return result

    async def _work(self) -> None:
        part: list[tuple[K, asyncio.Future[T]]] = []
        try:
            while part := self._next():
                self._part = part
                try:
                    found = await self._call([request for request, _ in part])
                except Exception as problem:
                    found = [problem] * len(part)
                for (_, result), each in zip(part, found, strict=True):
                    if result.done():
                        continue
                    if isinstance(each, Exception):
                        result.set_exception(each)
                    else:
                        result.set_result(each)
        finally:
            if self._calling is asyncio.current_task():
                self._calling = None
            for _, result in part:
                result.cancel()  # where this was cancelled; otherwise each has what it waits for

    def _next(self) -> list[tuple[K, asyncio.Future[T]]]:
        """The requests of the next call, one at least if somebody waits."""
        part: list[tuple[K, asyncio.Future[T]]] = []
        size = 0
        while self._waiting and len(part) < self._at_once and size < self._most:
            request, result = self._waiting.popleft()
            if not result.done():
                part.append((request, result))
                size += self._size(request)
        return part

    def _left(self, result: asyncio.Future[T]) -> None:
        if result.cancelled() and self._calling and all(each.done() for _, each in chain(self._part, self._waiting)):
            self._calling.cancel()
            self._calling = None  # who comes next begins anew
