"""The embedder that there is now: of an Ollama server if one has any, else the bundled one."""

from collections.abc import Callable
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
AT_FIRST, AWAKE = 2.0, 1.0
"""Seconds that a start waits for the first look; and between looks whether it is needed by now."""


class Embedders:
    """Keeps `present` up to date, as the setting `embedder` says: auto, bundled, none, or a model on Ollama.

    There is none while none is `needed`.
    """

    def __init__(self, settings: Settings, needed: Callable[[], bool] = lambda: True) -> None:
        self._settings, self._needed = settings, needed
        self._bundled = Bundled()
        self._nodes: dict[str, Node] = {}
        self._found: Embedder | None = None if settings.embedder == "none" else self._bundled

    @property
    def present(self) -> Embedder | None:
        """The embedder to use now."""
        return self._found if self._needed() else None

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
                    self._found = OnOllama(node, named[0])
                    return

    async def attend(self, consumer: str, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look now and then. See streams.worker.Companion; it does not matter which `consumer` it is beside."""
        del consumer
        if self._needed():
            with anyio.move_on_after(AT_FIRST):
                await self.look()
        task_status.started()
        while not self._needed():  # noqa: ASYNC110 - another process begins to need it
            await anyio.sleep(AWAKE)
        while True:
            await self.look()
            with suppress(ModelFailed):
                if self.present:
                    await self.present.embed(["."])  # so that it is loaded before a run wants it
            await anyio.sleep(LOOK)

    async def close(self) -> None:
        """Close the connections."""
        for node in self._nodes.values():
            await node.close()
