"""Connections on which nothing comes, or too slowly."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
import uvicorn
from anyio.abc import ByteStream
from starlette.responses import PlainTextResponse

from gateway.http import patience
from gateway.http.patience import Patience
from gateway.listening import listening

HALF = b"GET / HTTP/1.1\r\n"
WHOLE = HALF + b"Host: localhost\r\n\r\n"


@asynccontextmanager
async def served() -> AsyncGenerator[int]:
    """The port of a server that says hello."""
    with listening("127.0.0.1", 0) as listener:
        config = uvicorn.Config(PlainTextResponse("hello"), http=Patience, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


async def ended(stream: ByteStream, drops: bytes = b"") -> None:
    """Wait until the other side closes, and send something now and then."""
    with anyio.fail_after(20), contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            if drops:
                await stream.send(drops)
            with anyio.move_on_after(0.05):
                await stream.receive()


async def answered(stream: ByteStream) -> None:
    """It comes, in however many pieces."""
    got = b""
    with anyio.fail_after(20):
        while not got.endswith(b"hello"):
            got += await stream.receive()


@pytest.mark.parametrize(
    ("before", "begun", "drops"),
    [(b"", b"", b""), (b"", HALF, b""), (b"", HALF, b"X: y\r\n"), (WHOLE, HALF, b"")],
    ids=["nothing", "half a head", "drops buy no time", "after another"],
)
async def test_a_head_that_does_not_come_in_time_ends_its_connection(
    before: bytes, begun: bytes, drops: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "HEAD_WITHIN", 0.2)
    async with served() as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        if before:
            await stream.send(before)
            await answered(stream)
        if begun:
            await stream.send(begun)
        await ended(stream, drops)


async def test_one_request_after_the_other_on_a_connection_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "HEAD_WITHIN", 5.0)
    async with served() as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        for _ in range(3):
            await stream.send(WHOLE[:5])
            await stream.send(WHOLE[5:])
            await answered(stream)
