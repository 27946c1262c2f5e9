"""Doors in the test's own process, and what they send of runs."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio

from deploy.wiring import Victoria
from gateway.http import server
from tests.load.wire import Answer, Sent, Wire, events


class Door(NamedTuple):
    """A door, until it is told to stop."""

    url: str
    stop: anyio.Event

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request."""
        async with await Wire.to(self.url) as wire:
            return await wire.ask(method, path, body, **headers)

    async def events(self, run_id: str, after: str = "") -> list[Sent]:
        """All events of a run until its stream ends."""
        return [each async for each in events(self.url, run_id, after)]


@asynccontextmanager
async def door(victoria: Victoria) -> AsyncGenerator[Door]:
    """Inside, HTTP is served in this process."""
    stop = anyio.Event()
    with server.listening("127.0.0.1", 0) as listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, victoria, listener, "victoria", stop)
            try:
                here = Door(server.url_of(*listener.getsockname()[:2]), stop)
                await here.ask("GET", "/livez")
                yield here
            finally:
                stop.set()


def told(sent: Sequence[Sent]) -> list[str]:
    """The names of all events but tokens."""
    return [each.name for each in sent if each.name != "token"]
