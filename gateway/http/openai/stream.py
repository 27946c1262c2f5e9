"""An answer as server-sent events, in the chunks that OpenAI's clients read."""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import TypeVar

import msgspec

from gateway.http.openai.bodies import Chunk, ChunkChoice, Delta, Finish, Usage
from gateway.http.openai.errors import Failed

T = TypeVar("T")

DONE, ALIVE = b"data: [DONE]\n\n", b": alive\n\n"
EVERY = 15.0
"""Seconds of silence after which a comment keeps the connection open."""


class Chunks:
    """The chunks of one answer, ready to be sent."""

    def __init__(self, answer_id: str, model: str, *, with_usage: bool) -> None:
        self._id, self._model, self._with_usage = answer_id, model, with_usage
        self._created = int(time.time())

    def begin(self) -> bytes:
        """Who speaks."""
        return self._chunk(Delta(role="assistant", content=""))

    def content(self, text: str) -> bytes:
        """A piece of the answer; nothing for no text."""
        return self._chunk(Delta(content=text)) if text else b""

    def progress(self, line: str) -> bytes:
        """How the run goes on."""
        return self._chunk(Delta(reasoning_content=f"{line}\n"))

    def end(self, finish: Finish, usage: Usage | None) -> bytes:
        """Why it ends, and what it took, if that is known and wanted."""
        told = self._chunk(Delta(), finish)
        if usage and self._with_usage:
            told += _data(Chunk(self._id, self._created, self._model, (), usage))
        return told

    def failed(self, error: Failed) -> bytes:
        """What keeps the answer from coming."""
        return _data(error)

    def _chunk(self, delta: Delta, finish: Finish | None = None) -> bytes:
        return _data(Chunk(self._id, self._created, self._model, (ChunkChoice(delta, finish),)))


async def with_silences(items: AsyncGenerator[T], seconds: float = EVERY) -> AsyncGenerator[T | None]:
    """The items as they come, and None whenever there was none for so long."""
    coming: asyncio.Task[T] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(items))
            await asyncio.wait([coming], timeout=seconds)
            if coming.done():
                done, coming = coming, None
                try:
                    yield done.result()
                except StopAsyncIteration:
                    return
            else:
                yield None
    finally:
        if coming:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        await items.aclose()


def _data(record: object) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(record)
