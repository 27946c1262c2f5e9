"""Requests of many in few calls: what is asked for while a call is under way goes with the next one, all together.

Many requests at once then need few calls, and one that comes when nothing is under way leaves at once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


def _weightless(_request: object) -> int:
    return 0


class Gathered(Generic[K, T]):
    """One kind of call. It takes up to `at_once` requests, fewer once their `size` in all reaches `most`, and gives a
    result for each, or an error for that one alone.

    What was asked for is carried out though who asked goes away: it may record something that has been done. With
    `give_up` it is not, unless the call has begun, which is cancelled once nobody waits for it; the next one may begin
    before that has ended.
    """

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
        self._open = 0
        """Results that somebody waits for, counted with `give_up`."""
        self._calling: asyncio.Task[None] | None = None

    def ask(self, request: K) -> asyncio.Future[T]:
        """The result of a request, which raises what the call does."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        if self._give_up:
            self._open += 1
            result.add_done_callback(self._closed)
        self._waiting.append((request, result))
        if self._calling is None:
            self._calling = loop.create_task(self._work())
        return result

    async def _work(self) -> None:
        part: list[tuple[K, asyncio.Future[T]]] = []
        try:
            while part := self._next():
                try:
                    found = await self._call([request for request, _ in part])
                    given = [*zip(part, found, strict=True)]
                except Exception as problem:
                    given = [(each, problem) for each in part]
                for (_, result), each in given:
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
        """The requests of the next call, one at least if there are any."""
        part: list[tuple[K, asyncio.Future[T]]] = []
        size = 0
        while self._waiting and len(part) < self._at_once and size < self._most:
            request, result = self._waiting.popleft()
            if not (self._give_up and result.done()):
                part.append((request, result))
                size += self._size(request)
        return part

    def _closed(self, _result: asyncio.Future[T]) -> None:
        self._open -= 1
        if not self._open and self._calling:
            self._calling.cancel()
            self._calling = None  # who comes next begins anew
