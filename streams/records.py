"""Hash fields on the server: what is asked for in one moment travels in one call.

A stage that handles many events at once reads and writes many records at once. While one call is under way the next
requests gather; when idle, a request leaves at once.
"""

import asyncio
from typing import NamedTuple

from streams.cluster import Client, Line
from streams.scripts import Arg, Scripts

AT_MOST = 256
"""Requests in one call, which blocks the server for about 0.3 ms."""

Fields = list[bytes | None]


class Request(NamedTuple):
    """Read fields, or write `value` to the one field unless it holds something; `held`: what they held before."""

    key: str
    value: bytes
    fields: tuple[str, ...]
    held: asyncio.Future[Fields]


class Records:
    """Requests by partition, since one call must stay in one slot of a cluster."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lines: dict[str, Line] = {}
        self._scripts: dict[str, Scripts] = {}
        self._waiting: dict[str, list[Request]] = {}
        self._calls: dict[str, asyncio.Task[None]] = {}

    async def read(self, partition: str, key: str, *fields: str) -> Fields:
        """What the fields hold, all at one point of time. Raises redis errors."""
        return await self._request(partition, key, b"", fields)

    async def add(self, partition: str, key: str, field: str, value: bytes) -> bytes | None:
        """Write a field that holds nothing; what it held if it did. Raises redis errors."""
        (held,) = await self._request(partition, key, value, (field,))
        return held

    async def close(self) -> None:
        """Give the connections back."""
        for line in self._lines.values():
            await line.close()

    def _request(self, partition: str, key: str, value: bytes, fields: tuple[str, ...]) -> asyncio.Future[Fields]:
        loop = asyncio.get_running_loop()
        request = Request(key, value, fields, loop.create_future())
        self._waiting.setdefault(partition, []).append(request)
        if partition not in self._calls:
            self._calls[partition] = loop.create_task(self._call(partition))
        return request.held

    async def _call(self, partition: str) -> None:
        if partition not in self._scripts:
            self._lines[partition] = self._client.line()
            self._scripts[partition] = Scripts(self._lines[partition])
        scripts = self._scripts[partition]
        try:
            while batch := self._waiting.pop(partition, None):
                for start in range(0, len(batch), AT_MOST):
                    await self._carry(scripts, batch[start : start + AT_MOST])
        finally:
            del self._calls[partition]

    async def _carry(self, scripts: Scripts, batch: list[Request]) -> None:
        """One call. Whoever was cancelled while waiting is passed over."""
        keys: dict[str, int] = {}
        args: list[Arg] = []
        for request in batch:
            args += (keys.setdefault(request.key, len(keys) + 1), request.value, len(request.fields), *request.fields)
        try:
            results = await scripts.record(list(keys), args)
        except BaseException as problem:
            for request in batch:
                if isinstance(problem, Exception) and not request.held.done():
                    request.held.set_exception(problem)
                request.held.cancel()
            if not isinstance(problem, Exception):
                raise
            return
        for request, held in zip(batch, results, strict=True):
            if request.held.done():
                continue
            if isinstance(held, Exception):
                request.held.set_exception(held)
            else:
                request.held.set_result(held)
