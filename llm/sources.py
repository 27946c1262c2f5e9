"""A model that runs in this process, as a source of the pool."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from llm.engine import Engine
from llm.models import Backend, Model


class Ready:
    """An engine that is there already."""

    node = ""

    def __init__(self, backend: Backend, engine: Engine) -> None:
        self.slots, self._backend, self._engine = engine.slots, backend, engine

    async def models(self) -> Sequence[Model]:
        """The one it runs."""
        engine = self._engine
        return [Model(self._backend, "", engine.model, 0, engine.context, loaded=True)]

    async def open(self, model: str) -> Engine:
        """The engine."""
        return self._engine

    async def close(self) -> None:
        """Nothing is its own."""


class FileSource:
    """One model that this process loads from a file or folder.

    `find` gives its path, fetching it if need be, and `load` an engine for a path. `size` is in bytes, `context` tokens
    for each slot. Before it is loaded it counts as there: the first question loads it.
    """

    node = ""

    def __init__(
        self,
        engine: Backend,
        name: str,
        slots: int,
        context: int,
        size: int,
        find: Callable[[], Awaitable[Path]],
        load: Callable[[Path], Awaitable[Engine]],
    ) -> None:
        self.slots = slots
        self._find, self._load = find, load
        self._model = Model(engine, "", name, size, context, capabilities=frozenset({"schema"}))

    async def models(self) -> Sequence[Model]:
        """The one."""
        return [self._model]

    async def open(self, model: str) -> Engine:
        """Load it. Raises CouldNotStart."""
        engine = await self._load(await self._find())
        self._model = replace(self._model, context=engine.context, loaded=True, loaded_context=engine.context)
        return engine

    async def close(self) -> None:
        """Nothing is its own."""
