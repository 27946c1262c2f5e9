"""How the rooms are put together: one opened Victoria, from which doors publish and workers run."""

from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import anyio
import structlog
from anyio import to_thread

from consumers.run_view import RunView, view
from consumers.tools.workspace import Workspace
from consumers.topology import Parts, topology
from deploy.embedded import embedded
from deploy.projects import Projects
from deploy.settings import Loaded, Settings
from llm.engine import Engine
from llm.fetch import ensure_model
from llm.local import LocalEngine
from schemas.errors import CouldNotStart, InvalidInput, ModelFailed, Published, ToolRefused
from schemas.events import GoalSubmitted
from schemas.inference import Question
from streams.append import Publisher
from streams.connection import Client, connect, evicting, reachable, server_info
from streams.journal import Journal
from streams.keys import Keys
from streams.topology import Topology
from streams.worker import Terms, Worker, is_gone

_log: Any = structlog.get_logger()

Progress = Callable[[int, int], None]
"""Hears of a download: bytes done, bytes in all."""
LOCAL = "infer.local"
RETRY_AFTER = 60.0
"""Seconds for which a model that could not be loaded is not tried again."""


class LocalModel:
    """The embedded engine, fetched and loaded on first use. `progress` hears of a download."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._lock = settings, anyio.Lock()
        self._engine: Engine | None = None
        self._failure: CouldNotStart | None = None
        self._failed_at = 0.0
        self.progress: Progress | None = None

    async def __call__(self) -> Engine:
        """The loaded engine. Raises CouldNotStart `model.*`, and for RETRY_AFTER seconds the same again."""
        async with self._lock:
            if self._failure and monotonic() - self._failed_at < RETRY_AFTER:
                raise self._failure
            try:
                self._engine = self._engine or await self._load()
            except CouldNotStart as problem:
                self._failure, self._failed_at = problem, monotonic()
                raise
            return self._engine

    async def _load(self) -> Engine:
        s = self._settings
        path = await to_thread.run_sync(ensure_model, s.cache_dir, s.local_model, self.progress)
        return await LocalEngine.load(path, slots=s.local_slots, context=s.local_context)

    def use(self, engine: Engine) -> None:
        """Take this engine instead of loading one."""
        self._engine = engine

    async def close(self) -> None:
        """Free it, if it was loaded."""
        if self._engine:
            await self._engine.close()


def _router(model: str) -> Callable[[Question[Any]], str]:
    def route(_question: Question[Any]) -> str:
        if model == "none":
            raise ModelFailed("model.none", "No model is to be used.", "Unset VICTORIA_MODEL to use one.")
        return LOCAL

    return route


@dataclass(frozen=True, slots=True)
class Victoria:
    """An opened Victoria: connected to its server, with its stages wired."""

    settings: Settings
    projects: Projects
    url: str
    client: Client
    keys: Keys
    topology: Topology
    publisher: Publisher
    local_model: LocalModel
    evicts: str = ""
    """The server's maxmemory-policy, if by that whole streams may go when its memory is full."""

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages these settings need: without a model no inference consumer."""
        names = (stage.name for stage in self.topology.stages)
        return tuple(name for name in names if self.settings.model != "none" or not name.startswith("infer."))

    def require_stages(self, names: Iterable[str]) -> tuple[str, ...]:
        """The named stages. Raises InvalidInput with code `stage.unknown`."""
        known = [stage.name for stage in self.topology.stages]
        for name in names:
            if name not in known:
                raise InvalidInput("stage.unknown", f"There is no stage {name!r}.", f"Stages: {', '.join(known)}.")
        return tuple(dict.fromkeys(names))

    async def live(self) -> dict[str, int]:
        """How many live consumers each stage has, over all partitions the least.

        One of this machine whose process is gone does not count, though its lease may still last. The time is any
        server's: leases last far longer than the clocks of a cluster's servers differ.
        """
        client: Any = self.client
        seconds, micros = await client.time()
        now = seconds * 1000 + micros // 1000
        leases = [(stage.name, p) for stage in self.topology.stages for p in self.keys.of_stream(stage.reads)]
        pipeline = client.pipeline(transaction=False)
        for name, partition in leases:
            pipeline.zrangebyscore(self.keys.leases(partition, name), now, "+inf")
        found: dict[str, int] = {}
        for (name, _), held in zip(leases, await pipeline.execute(), strict=True):
            alive = sum(not is_gone(consumer.decode()) for consumer in held)
            found[name] = min(alive, found.get(name, alive))
        return found

    def worker(self, stages: Sequence[str]) -> Worker:
        """A worker for some stages; call `ready` first where `infer.local` is among them."""
        s = self.settings
        if self.evicts:
            _log.warning("server.evicts", policy=self.evicts)
        terms = Terms(
            lease=s.lease,
            grace=s.grace,
            model_timeout=s.model_timeout,
            keep=s.keep,
            keep_entries=s.keep_entries,
            keep_dead=s.keep_dead,
        )
        return Worker(stages, self.topology, self.client, self.keys, _router(s.model), terms)

    async def ready(self, stages: Sequence[str]) -> None:
        """Load what the stages need before they read anything. Raises CouldNotStart."""
        if LOCAL in stages:
            await self.local_model()

    async def submit(self, goals: Sequence[tuple[str, GoalSubmitted]]) -> list[Published]:
        """Publish (run id, goal) pairs; what became of each. Trying again publishes nothing twice.

        Raises Overloaded where too many wait already, NotReachable.
        """
        with reachable(self.url):
            return await self.publisher.publish(goals, self.topology.entries[GoalSubmitted])

    async def view(self, run_id: str) -> RunView:
        """What is known of a run. Raises InvalidInput with code `run.unknown`."""
        return await view(self.client, self.keys, run_id)


@contextmanager
def server(settings: Settings) -> Generator[str]:
    """The URL of the configured server, or of the embedded one, kept running inside. Enter it outside event loops."""
    if settings.redis_url:
        yield settings.redis_url
    else:
        with embedded(settings.state_dir) as url:
            yield url


def wired(settings: Settings, projects: Projects, client: Client, local_model: LocalModel) -> Topology:
    """The topology of these settings."""

    def workspaces(project: str) -> Workspace:
        name = projects.resolve(project)
        folder = projects.folder(name)
        if folder is None:
            raise ToolRefused(
                "project.no_folder",
                f"The project {name!r} has no folder here.",
                f"Name it: ALLOWED_PROJECTS={name}=/path/to/folder.",
            )
        return Workspace(folder)

    keys = Keys(settings.prefix, settings.partitions)
    parts = Parts(workspaces, Journal(client, keys), local_model, settings.local_slots, settings.max_iterations)
    return topology(parts)


def catalogue_topology() -> Topology:
    """The topology for looking at: its stages are never run."""
    settings = Settings()
    return wired(settings, Projects("", {}), connect("redis://"), LocalModel(settings))


@asynccontextmanager
async def opened(loaded: Loaded, url: str) -> AsyncGenerator[Victoria]:
    """Connect to the server at `url` and wire everything. Raises NotReachable, CouldNotStart, InvalidInput."""
    settings = loaded.settings
    if settings.model not in ("auto", "local", "none"):
        raise InvalidInput(
            "model.unknown", f"There is no model {settings.model!r} here.", "VICTORIA_MODEL is auto, local or none."
        )
    projects = Projects.from_settings(settings, loaded.root)
    client = connect(url)
    keys = Keys(settings.prefix, settings.partitions)
    local_model = LocalModel(settings)
    try:
        with reachable(url):
            infos = await server_info(client)
        stages = wired(settings, projects, client, local_model)
        groups = {stream: stages.groups(stream) for stream in stages.entries.values()}
        yield Victoria(
            settings=settings,
            projects=projects,
            url=url,
            client=client,
            keys=keys,
            topology=stages,
            publisher=Publisher(client, keys, groups, settings.backlog),
            local_model=local_model,
            evicts=next((policy for info in infos if (policy := evicting(info))), ""),
        )
    finally:
        with anyio.CancelScope(shield=True):
            await local_model.close()
            await client.aclose()
