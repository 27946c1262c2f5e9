"""HTTP as bare as can be: what is measured is the door, and not its client."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

LIMIT = 8 * 1024 * 1024
"""Bytes of a line at most: an event's data is one."""


class Answer(NamedTuple):
    """A response; the JSON of its body."""

    status: int
    body: Any


class Sent(NamedTuple):
    """One server-sent event."""

    id: str
    name: str
    data: Any


class Wire:
    """A connection that is kept. Raises OSError, EOFError where the other side breaks it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, url: str) -> Self:
        """Connect to the host of a URL."""
        host = urlsplit(url)
        return cls(*await asyncio.open_connection(host.hostname, host.port, limit=LIMIT))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request; `_` in names of headers stands for `-`."""
        status = await self._send(method, path, body, headers)
        size = 0
        async for name, value in self._head():
            if name == "content-length":
                size = int(value)
        data = await self._reader.readexactly(size)
        return Answer(status, json.loads(data) if data else None)

    async def events(self, path: str, after: str = "") -> AsyncGenerator[Sent]:
        """The events of a page as they come, until it ends; the connection with it. Raises ValueError for another
        status than 200 or 204."""
        headers = {"Last-Event-ID": after} if after else {}
        status = await self._send("GET", path, None, headers, "1.0")  # by which nothing comes in chunks
        if status not in (200, 204):
            raise ValueError(f"{path} is {status}")
        async for _ in self._head():
            pass
        fields: dict[str, str] = {}
        while line := (await self._reader.readline()).decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "data":
                yield Sent(fields["id"], fields["event"], json.loads(value))
            elif name:
                fields[name] = value

    async def _send(self, method: str, path: str, body: Any, headers: dict[str, str], version: str = "1.1") -> int:
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = [f"{method} {path} HTTP/{version}", "Host: localhost", f"Content-Length: {len(data)}", *lines, "", ""]
        self._writer.write("\r\n".join(head).encode() + data)
        await self._writer.drain()
        first = await self._reader.readline()
        if not first:
            raise EOFError("The connection was closed.")
        return int(first.split()[1])

    async def _head(self) -> AsyncGenerator[tuple[str, str]]:
        while line := (await self._reader.readline()).decode().strip():
            name, _, value = line.partition(":")
            yield name.lower(), value.strip()


async def events(url: str, run_id: str, after: str = "") -> AsyncGenerator[Sent]:
    """A run's events at the door of a URL, as they come, until the stream ends."""
    async with await Wire.to(url) as wire, aclosing(wire.events(f"/run/{run_id}/events", after)) as coming:
        async for each in coming:
            yield each
