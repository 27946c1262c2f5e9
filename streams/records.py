"""Hash fields on the server: what is asked for in one moment travels in one call.

A stage that handles many events at once reads and writes many records at once.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from streams.cluster import Client, Line
from streams.gathered import Gathered
from streams.scripts import Arg, Scripts

AT_MOST = 256
"""Requests in one call, which blocks the server for about 0.3 ms."""

Fields = list[bytes | None]


class Request(NamedTuple):
    """Read fields, or write `value` to the one field unless it holds something."""

    key: str
    value: bytes
    fields: tuple[str, ...]


class Records:
    """Requests by partition, since one call must stay in one slot of a cluster."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lines: dict[str, Line] = {}
        self._calls: dict[str, Gathered[Request, Fields]] = {}

    async def read(self, partition: str, key: str, *fields: str) -> Fields:
        """What the fields hold, all at one point of time. Raises redis errors."""
        return await self._of(partition).ask(Request(key, b"", fields))

    async def add(self, partition: str, key: str, field: str, value: bytes) -> bytes | None:
        """Write a field that holds nothing; what it held if it did. Raises redis errors."""
        (held,) = await self._of(partition).ask(Request(key, value, (field,)))
        return held

    async def close(self) -> None:
        """Give the connections back."""
        for line in self._lines.values():
            await line.close()

    def _of(self, partition: str) -> Gathered[Request, Fields]:
        if partition not in self._calls:
            self._lines[partition] = self._client.line()
            self._calls[partition] = Gathered(partial(_carry, Scripts(self._lines[partition])), AT_MOST)
        return self._calls[partition]


async def _carry(scripts: Scripts, requests: Sequence[Request]) -> list[Fields | Exception]:
    """One call: what each request's fields held before."""
    keys: dict[str, int] = {}
    args: list[Arg] = []
    for request in requests:
        args += (keys.setdefault(request.key, len(keys) + 1), request.value, len(request.fields), *request.fields)
    return await scripts.record(list(keys), args)
