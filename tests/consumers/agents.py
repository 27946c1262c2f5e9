"""An agent for tests, on a real socket: it does a work once for each key, or behaves as its `script` says."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.llm.fake_ollama import Reply

KNOWLEDGE = {"method": "simple", "model": "far-model", "tokens_in": 30, "tokens_out": 12, "delegated_to": None}
DONE: dict[str, Any] = {"status": "success", "output": "far work", "knowledge": KNOWLEDGE}


@dataclass
class Request:
    """One request, and what it can be known by."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def key(self) -> str:
        return self.headers.get("idempotency-key", "")


class FakeAgent:
    """What it was asked, how often it did the work of each key, which works were taken back, and who went away."""

    def __init__(self) -> None:
        self.url = ""
        self.script: Script = self.work
        self.asked: list[Request] = []
        self.did: Counter[str] = Counter()
        self.taken_back: list[str] = []
        self.left = 0
        self.free = asyncio.Event()
        self.free.set()
        self._answers: dict[str, dict[str, Any]] = {}
        self._at_work: set[asyncio.Task[None]] = set()

    async def work(self, reply: Reply, request: Request) -> None:
        """The good agent: once for each key, as soon as it is `free`; whoever asks again gets what it made."""
        await self.free.wait()
        if request.key not in self._answers:
            self.did[request.key] += 1
            self._answers[request.key] = DONE
        await reply.json(self._answers[request.key])

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._answer(reader, writer))
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)

    async def die(self) -> None:
        """Leave all who wait, at once."""
        for task in (tasks := list(self._at_work)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):  # who gave up before it had asked
                await self._heard(reader, writer)
        finally:
            if self.left:
                writer.transport.abort()
            writer.close()

    async def _heard(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        sent = await reader.readexactly(int(headers.get("content-length", 0)))
        request, reply = Request(first.split(" ")[1], headers, json.loads(sent) if sent else {}), Reply(writer)
        if request.path.endswith("/cancel"):
            self.taken_back.append(request.path)
            script = asyncio.ensure_future(reply.json({}))
        else:
            self.asked.append(request)
            script = asyncio.ensure_future(self.script(reply, request))
        gone = asyncio.ensure_future(reader.read())
        try:
            await asyncio.wait({script, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.left += not script.done()
            for task in (script, gone):
                task.cancel()
            await asyncio.gather(script, gone, return_exceptions=True)


Script = Callable[[Reply, Request], Awaitable[None]]


def says(body: object, status: int = 200) -> Script:
    """An agent that answers this, as JSON, or as it is where it is bytes."""

    async def script(reply: Reply, _: Request) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = b"HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        await reply.raw(head % (status, len(data)) + data)

    return script


def sends(*pieces: bytes, hold: bool = False) -> Script:
    """An agent that sends these bytes, and then hangs up, or on."""

    async def script(reply: Reply, _: Request) -> None:
        for piece in pieces:
            await reply.raw(piece)
        if hold:
            await asyncio.sleep(3600)

    return script


async def endless(reply: Reply, _: Request) -> None:
    """An agent whose answer of 10 GB never comes to its end."""
    await reply.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    while True:
        await reply.raw(b" " * 65_536)


async def dripping(reply: Reply, _: Request) -> None:
    """An agent that sends a byte now and then, so that no wait for the next one is long."""
    await reply.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        await reply.raw(b" ")
        await asyncio.sleep(0.02)


@asynccontextmanager
async def fake_agent(port: int = 0) -> AsyncGenerator[FakeAgent]:
    agent = FakeAgent()
    server = await asyncio.start_server(agent.connected, "127.0.0.1", port)
    agent.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield agent
    finally:
        server.close()
        await agent.die()
