"""A fake Ollama for tests: it speaks the documented HTTP protocol over a real socket, and runs no model."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

Body = dict[str, Any]


class Reply:
    """What one request is answered with."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def json(self, body: object, status: int = 200) -> None:
        await self.text(json.dumps(body), status)

    async def text(self, text: str, status: int = 200) -> None:
        data = text.encode()
        await self.raw(b"HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (status, len(data)) + data)

    async def begin(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n"
        await self.raw(head + b"Transfer-Encoding: chunked\r\n\r\n")

    async def piece(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def line(self, **body: Any) -> None:
        await self.piece(json.dumps(body, ensure_ascii=False).encode() + b"\n")

    async def say(self, *texts: str) -> None:
        for text in texts:
            await self.line(model="m", message={"role": "assistant", "content": text}, done=False)

    async def done(self, reason: str = "stop", **counts: int) -> None:
        counts = {"prompt_eval_count": 12, "eval_count": 3, **counts}
        await self.line(
            model="m", message={"role": "assistant", "content": ""}, done=True, done_reason=reason, **counts
        )
        await self.end()

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")


Script = Callable[[Reply, Body], Awaitable[None]]


async def hello(reply: Reply, _: Body) -> None:
    await reply.begin()
    await reply.say("Hel", "lo")
    await reply.done()


async def load(reply: Reply, _: Body) -> None:
    await reply.json(
        {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "load"}
    )


class FakeOllama:
    """Its models, its scripts by path (`load` is a chat without messages), and what it was asked.

    `left` counts the requests whose client went away before their answer had ended.
    """

    def __init__(self) -> None:
        self.url = ""
        self.models: dict[str, Body] = {"m:latest": shown()}
        self.loaded: list[Body] = []
        self.scripts: dict[str, Script] = {"load": load, "/api/chat": hello}
        self.asked: list[tuple[str, Body]] = []
        self.left = 0
        self.at_once = self.most_at_once = 0
        self.at_work = set[asyncio.Future[None]]()

    @property
    def chats(self) -> list[Body]:
        return [body for path, body in self.asked if path == "/api/chat" and body["messages"]]

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._answer(reader, writer))
        self.at_work.add(task)
        task.add_done_callback(self.at_work.discard)

    async def die(self) -> None:
        """Leave all who wait."""
        for task in (tasks := list(self.at_work)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._heard(reader, writer)
        finally:
            writer.close()

    async def _heard(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        except asyncio.IncompleteReadError:  # who connected was killed before it asked
            return
        length = next((int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:")), 0)
        path, sent = head.split(" ")[1], await reader.readexactly(length)
        body: Body = json.loads(sent) if sent else {}
        self.asked.append((path, body))
        kind = "load" if path == "/api/chat" and not body["messages"] else path
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        work = asyncio.ensure_future(self.scripts.get(kind, self.listing)(Reply(writer), {"path": path, **body}))
        gone = asyncio.ensure_future(reader.read())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.at_once -= 1
            self.left += not work.done()
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def listing(self, reply: Reply, body: Body) -> None:
        match body["path"]:
            case "/api/tags":
                tags = [
                    {"name": n, "size": 1000, "digest": f"d-{n}", **m.get("tag", {})} for n, m in self.models.items()
                ]
                await reply.json({"models": tags})
            case "/api/version":
                await reply.json({"version": "0.17.4"})
            case "/api/ps":
                await reply.json({"models": self.loaded})
            case "/api/show" if body["model"] in self.models:
                await reply.json(self.models[body["model"]])
            case _:
                await reply.json({"error": f"model '{body.get('model')}' not found"}, 404)


def shown(*capabilities: str, context: int = 2048, format: str = "gguf", **more: Any) -> Body:  # noqa: A002
    """What `/api/show` says of a model that can chat."""
    return {
        "capabilities": ["completion", *capabilities],
        "details": {"format": format, "family": "llama"},
        "model_info": {"general.architecture": "llama", "llama.context_length": context},
        **more,
    }


@asynccontextmanager
async def fake_ollama() -> AsyncGenerator[FakeOllama]:
    fake = FakeOllama()
    server = await asyncio.start_server(fake.connected, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    fake.url = f"http://{host}:{port}"
    try:
        yield fake
    finally:
        server.close()
        await fake.die()
