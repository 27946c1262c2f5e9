"""The embedder that there is now: of an Ollama server if one has any, else the bundled one."""

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskStatus

from deploy.engines import has_ollama, ollama_hosts, ollama_limits
from deploy.settings import Settings
from llm.embedding import Bundled, Embedder, OnOllama
from schemas.errors import ModelFailed

if TYPE_CHECKING:
    from llm.ollama_node import Node

LOOK = 120.0
"""Seconds between looks for another one."""
AT_FIRST = 2.0
"""Seconds that a start waits for the first look."""


class Embedders:
    """Keeps `present` up to date, as the setting `embedder` says: auto, bundled, none, or a model on Ollama."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bundled = Bundled()
        self._nodes: dict[str, Node] = {}
        self.present: Embedder | None = None if settings.embedder == "none" else self._bundled

    async def look(self) -> None:
        """See which one there is. One that was there stays where its server does not answer."""
        wanted = self._settings.embedder
        if wanted in ("bundled", "none") or not (wanted != "auto" or await has_ollama(self._settings)):
            return
        from llm.ollama_node import Node  # late: httpx takes a third of a second

        for host in ollama_hosts(self._settings):
            node = self._nodes.get(host) or self._nodes.setdefault(host, Node(host, ollama_limits(self._settings)))
            with suppress(ModelFailed):
                found = await node.embedders()
                named = [name for name in found if wanted in ("auto", name, name.removesuffix(":latest"))]
                if named:
                    self.present = OnOllama(node, named[0])
                    return

    async def attend(self, consumer: str, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look now and then. See streams.worker.Companion; it does not matter which `consumer` it is beside."""
        del consumer
        with anyio.move_on_after(AT_FIRST):
            await self.look()
        task_status.started()
        with suppress(ModelFailed):
            if self.present:
                await self.present.embed(["."])  # so that it is loaded before a run wants it
        while True:
            await anyio.sleep(LOOK)
            await self.look()

    async def close(self) -> None:
        """Close the connections."""
        for node in self._nodes.values():
            await node.close()
