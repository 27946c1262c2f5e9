"""How the rooms are put together: one opened Victoria, from which doors publish and workers run."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

import anyio

from consumers.answer_cache import AnswerCache
from consumers.clock import seconds_left
from consumers.hypotheses import Hypotheses
from consumers.inference import Desk
from consumers.memory import nothing
from consumers.offers import Board
from consumers.postgres.database import Database
from consumers.postgres.memories import Memories
from consumers.postgres.store import PostgresStore
from consumers.questions import Questions
from consumers.redis_store import RedisStore
from consumers.sessions import Sessions
from consumers.store import Store, Stores
from consumers.tools.workspace import Workspace
from consumers.topology import Parts, topology
from deploy.agents import delegation
from deploy.database import Nearby
from deploy.embedded import embedded
from deploy.embedders import Embedders
from deploy.engines import Engines
from deploy.loading import Loaded
from deploy.observed.figures import Figures
from deploy.observed.many import together
from deploy.people import experts, staff_now, strategies
from deploy.projects import Projects
from deploy.settings import Settings
from deploy.tools import items, registry
from deploy.victoria import Victoria
from schemas.errors import CouldNotStart, ToolRefused
from streams.append import Publisher
from streams.connection import Client, connect, evicting, reachable, server_info
from streams.journal import Journal
from streams.keys import Keys
from streams.observer import SILENT, Observer
from streams.topology import Topology

if TYPE_CHECKING:
    from deploy.observed.traces import Traces


@contextmanager
def server(settings: Settings) -> Generator[str]:
    """The URL of the configured server, or of the embedded one, kept running inside. Enter it outside event loops."""
    if settings.redis_url:
        yield settings.redis_url
    else:
        with embedded(settings.state_dir) as url:
            yield url


def stores_of(projects: Projects, client: Client, keys: Keys, url: str, database: Database | None) -> Stores:
    """What projects keep: in the database that is configured, or else on the server of their streams."""

    @cache
    def store(project: str) -> Store:
        return PostgresStore(database, project) if database else RedisStore(client, keys, project, url)

    return lambda project: store(projects.resolve(project))


def wired(
    settings: Settings,
    projects: Projects,
    engines: Engines,
    sessions: Sessions,
    client: Client,
    keys: Keys,
    url: str = "",
    database: Database | None = None,
    memories: Memories | None = None,
    observer: Observer = SILENT,
) -> Topology:
    """The topology of these settings, on the server at `url` and, where one is configured, the database."""

    def workspaces(project: str) -> Workspace:
        name = projects.resolve(project)
        folder = projects.folder(name)
        if folder is None:
            raise ToolRefused(
                "project.no_folder",
                f"The project {name!r} has no folder here.",
                f"Name it: ALLOWED_PROJECTS={name}=/path/to/folder.",
            )
        return Workspace(folder, secrets=secrets, writable=name in writable)

    writable, secrets = items(settings.writable_projects), items(settings.secret_files)
    tools = registry(settings)
    plans = strategies(settings)
    folders = experts(settings, tools, plans) if settings.use_victoria_enhanced else None
    staff = staff_now(folders, plans, tools, settings.model, settings.model_priority, str(settings.max_iterations))
    return topology(
        Parts(
            workspaces=workspaces,
            inference=engines.consumers.values(),
            questions=Questions(client, keys),
            left=partial(seconds_left, client, keys),
            sessions=sessions,
            delegation=delegation(settings, client, keys),
            hypotheses=Hypotheses(client, keys, Publisher(client, keys, observer=observer)),
            hypothesis_seconds=settings.hypothesis_timeout,
            max_iterations=settings.max_iterations,
            question_seconds=settings.question_timeout,
            tools=tools,
            strategies=plans,
            experts=folders,
            stores=stores_of(projects, client, keys, url, database),
            keeper=memories,
            recall=memories.recall if memories else nothing,
            answers=AnswerCache(client, keys, settings.answer_cache, staff, workspaces, tools, projects.resolve),
            observer=observer,
        )
    )


def engines_of(settings: Settings, client: Client, keys: Keys, board: Board, observer: Observer = SILENT) -> Engines:
    """The inference consumers of these settings."""
    return Engines(settings, Desk(client, keys, Journal(client, keys), board, settings.lease, observer))


def catalogue_topology() -> Topology:
    """The topology for looking at: its stages are never run."""
    settings = Settings()
    client, keys = connect("redis://"), Keys()
    return wired(settings, Projects("", {}), engines_alone(settings), Sessions(client, keys), client, keys)


def engines_alone(settings: Settings) -> Engines:
    """The inference consumers of these settings for looking at, without a server: they are never run."""
    client, keys = connect("redis://"), Keys()
    return engines_of(settings, client, keys, Board(client, keys))


def traces_of(settings: Settings) -> "Traces | None":
    """The traces that these settings want, for the caller to close. Raises CouldNotStart `otel.missing`,
    `otel.malformed`."""
    if not settings.otel:
        return None
    try:
        from deploy.observed.traces import Traces  # late: it takes a fifth of a second, and an extra
    except ModuleNotFoundError as problem:
        raise CouldNotStart(
            "otel.missing",
            f"Traces need what is not installed: {problem.name}.",
            "Install it: pip install victoria-streams[otel]; or unset VICTORIA_OTEL.",
        ) from None
    try:
        return Traces(content=settings.otel_content)
    except (ValueError, OSError) as problem:
        raise CouldNotStart(
            "otel.malformed",
            f"Traces can't be exported so: {problem}",
            "See the variables OTEL_*; or unset VICTORIA_OTEL.",
        ) from problem


@asynccontextmanager
async def opened(loaded: Loaded, url: str, *, measured: bool = False) -> AsyncGenerator[Victoria]:
    """Connect to the server at `url` and wire everything, with figures for Prometheus where it is to be `measured`.
    Raises NotReachable, CouldNotStart, InvalidInput."""
    settings = loaded.settings
    projects = Projects.from_settings(settings, loaded.root)
    client = connect(url)
    keys = Keys(settings.prefix, settings.partitions)
    board = Board(client, keys)
    figures, traces = Figures() if measured else None, traces_of(settings)
    observer = together(figures, traces)
    engines = engines_of(settings, client, keys, board, observer)
    if figures:
        figures.offers = engines.offers
    sessions = Sessions(client, keys, settings.keep_sessions, limit=settings.memory_bytes)
    database = Database(settings.database_url, settings.prefix) if settings.database_url else None
    nearby = Nearby(settings) if settings.history and not database else None
    embedders = Embedders(settings, lambda: nearby is None or nearby.awake) if database or nearby else None
    kept = database or nearby
    memories = Memories(kept, lambda: embedders.present, projects.resolve) if kept and embedders else None
    try:
        with reachable(url):
            infos = await server_info(client)
        stages = wired(settings, projects, engines, sessions, client, keys, url, database, memories, observer)
        groups = {stream: stages.groups(stream) for stream in stages.entries.values()}
        yield Victoria(
            settings=settings,
            projects=projects,
            url=url,
            client=client,
            keys=keys,
            topology=stages,
            publisher=Publisher(client, keys, groups, settings.backlog, observer),
            sessions=sessions,
            board=board,
            engines=engines,
            evicts=next((policy for info in infos if (policy := evicting(info))), ""),
            database=database,
            memories=memories,
            embedders=embedders,
            figures=figures,
            traces=traces,
        )
    finally:
        with anyio.CancelScope(shield=True):
            await engines.close()
            if traces:
                await anyio.to_thread.run_sync(traces.close)
            await client.aclose()
            if embedders:
                await embedders.close()
            if kept:
                await kept.close()


def still_topology(settings: Settings, projects: Projects) -> Topology:
    """The topology of these settings for replays: its handlers decide, and can't reach anything."""
    client, keys = connect("unix:///nowhere"), Keys()
    engines = engines_of(settings, client, keys, Board(client, keys))
    return wired(settings, projects, engines, Sessions(client, keys), client, keys)
