"""The inference consumers that these settings make: which engines, from where, and for which models."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from importlib.util import find_spec
from pathlib import Path
from platform import system
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from consumers.inference import Desk, Inference
from consumers.prefixes import prefixes
from deploy.people import experts, strategies
from deploy.settings import Settings
from deploy.tools import registry
from llm.engine import Engine, Generation
from llm.fetch import SMOLLM2, check_gguf, ensure_model
from llm.models import BACKENDS, Backend, Offer, Wish, display_name
from llm.place import Source
from llm.pool import Pool
from llm.sources import FileSource, Ready
from schemas.errors import CouldNotStart

if TYPE_CHECKING:
    from llm.ollama_node import Limits

Progress = Callable[[int, int], None]
"""Hears of a download: bytes done, bytes in all."""
Load = Callable[[Path], Awaitable[Engine]]
OLLAMA = ("127.0.0.1", 11434)
"""Where an Ollama listens if nobody says otherwise."""
READ_WITHIN = 600.0
"""Seconds in which an engine must have read what all questions of a kind begin with."""
KNOCK = 0.3
"""Seconds in which one on this machine opens its door."""


class Engines:
    """Inference consumers by back end; their engines are made and loaded when they are first used.

    `progress` hears of a model that is fetched.
    """

    def __init__(self, settings: Settings, desk: Desk) -> None:
        self._settings = settings
        self.wish = Wish.parse(settings.model)
        self.priority = tuple(name.strip() for name in settings.model_priority.split(",") if name.strip())
        self.progress: Progress | None = None
        sources = {"local": self._local, "mlx": self._mlx, "ollama": self._ollama}
        slots = {
            "local": settings.local_slots,
            "mlx": settings.mlx_slots,
            "ollama": settings.ollama_slots * len(ollama_hosts(settings)),
        }
        self.consumers: dict[Backend, Inference] = {
            engine: Inference(engine, slots[engine], self._pool(sources[engine]), desk) for engine in BACKENDS
        }

    def use(self, backend: Backend, engine: Engine) -> None:
        """Let a back end's consumer use this engine, instead of those of the settings."""
        self.consumers[backend].pool = Pool([Ready(backend, engine)])

    async def wanted(self) -> tuple[Backend, ...]:
        """The back ends that may have what these settings wish for, as far as this machine can tell."""
        wish, settings = self.wish, self._settings
        if wish.engine == "none":
            return ()
        if wish.engine:
            return (wish.engine,)
        found: list[Backend] = []
        bundled = display_name(SMOLLM2.filename)
        if settings.mlx_model or (not wish.model and system() == "Darwin" and find_spec("mlx_lm")):
            found.append("mlx")
        if wish.model in ("", display_name(settings.local_model) or bundled):
            found.append("local")
        if not found or await has_ollama(settings):
            found.append("ollama")
        return tuple(engine for engine in BACKENDS if engine in found)

    def check(self, engines: Collection[Backend]) -> None:
        """See that what was named is there and is a model, before anything is started. Raises CouldNotStart."""
        if "local" in engines and (path := self.path("local")):
            check_gguf(path)
        if "mlx" in engines:
            if not find_spec("mlx_lm"):
                said = "The MLX engine is not installed."
                raise CouldNotStart("model.library", said, "Install it: pip install victoria-streams[mlx]")
            if (path := self.path("mlx")) and not path.is_dir():
                check_gguf(path)

    async def load(self, engines: Collection[str]) -> None:
        """Load what runs in this process of these back ends. Raises CouldNotStart."""
        for name, consumer in self.consumers.items():
            if name in engines and name != "ollama":
                await consumer.pool.load()

    async def local(self) -> Engine:
        """The local engine, loaded, for the caller to close. Raises CouldNotStart."""
        (source,) = self._local()
        return await source.open("")

    def warm(self) -> None:
        """From now on read the stages' prompts ahead, for lasting work. Ollama only where it is wished for: its models
        may be large, and not be needed."""
        tools = registry(self._settings)
        questions = prefixes(tools, experts(self._settings, tools, strategies(self._settings)).roster())
        warm = [Generation(question.messages, 1, READ_WITHIN, question.schema) for question in questions]
        for name, consumer in self.consumers.items():
            if name != "ollama" or self.wish.engine == "ollama":
                consumer.warm = warm

    def offers(self) -> list[Offer]:
        """What the engines have that are in use in this process."""
        return [offer for consumer in self.consumers.values() for offer in consumer.offers()]

    async def close(self) -> None:
        """Free all engines."""
        for consumer in self.consumers.values():
            await consumer.close()

    def _pool(self, sources: Callable[[], Sequence[Source]]) -> Callable[[], Pool]:
        wished = (self.wish.model,) if self.wish.model else ()
        return lambda: Pool(sources(), priority=(*wished, *self.priority))

    def path(self, engine: Backend) -> Path | None:
        """The file or folder that was named for an engine in this process, None for the bundled model."""
        head, _, named = self._settings.model.partition(":")
        wished = named if head == engine and "/" in named else ""
        path = wished or (self._settings.local_model if engine == "local" else self._settings.mlx_model)
        return Path(path) if path else None

    def _file(self, engine: Backend, slots: int, context: int, load: Load) -> Sequence[Source]:
        path = self.path(engine)

        async def find() -> Path:
            if path and path.is_dir():
                return path
            cache_dir = self._settings.cache_dir
            return await to_thread.run_sync(ensure_model, cache_dir, str(path or ""), self.progress)

        name = display_name(str(path) if path else SMOLLM2.filename)
        return [FileSource(engine, name, slots, context, _size(path) if path else SMOLLM2.size, find, load)]

    def _local(self) -> Sequence[Source]:
        slots, context = self._settings.local_slots, self._settings.local_context

        async def load(path: Path) -> Engine:
            from llm.local import LocalEngine

            return await LocalEngine.load(path, slots=slots, context=context)

        return self._file("local", slots, context, load)

    def _mlx(self) -> Sequence[Source]:
        slots, context = self._settings.mlx_slots, self._settings.mlx_context

        async def load(path: Path) -> Engine:
            from llm.mlx import MlxEngine

            return await MlxEngine.load(path, slots=slots, context=context)

        return self._file("mlx", slots, context, load)

    def _ollama(self) -> Sequence[Source]:
        from llm.ollama import OllamaSource  # late: httpx takes a third of a second

        s, limits = self._settings, ollama_limits(self._settings)
        return [OllamaSource(host, s.ollama_slots, s.ollama_context, limits) for host in ollama_hosts(s)]


def ollama_hosts(settings: Settings) -> list[str]:
    """The addresses of the Ollama servers, in their order."""
    hosts = [host.strip() for host in settings.ollama_hosts.split(",") if host.strip()]
    return hosts or ["{}:{}".format(*OLLAMA)]


async def has_ollama(settings: Settings) -> bool:
    """Whether one is named, or listens on this machine."""
    return bool(settings.ollama_hosts) or await _knocked(*OLLAMA)


def ollama_limits(settings: Settings) -> "Limits":
    """How long they are waited for."""
    from llm.ollama_node import Limits

    s = settings
    return Limits(s.ollama_connect, s.ollama_plain, s.ollama_load, s.ollama_first, s.ollama_idle)


def _size(path: Path) -> int:
    """Bytes of a file, or of a folder's files."""
    try:
        return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size
    except OSError:
        return 0


async def _knocked(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    with anyio.move_on_after(KNOCK):
        try:
            stream = await anyio.connect_tcp(host, port)
        except OSError:
            return False
        await stream.aclose()
        return True
    return False
