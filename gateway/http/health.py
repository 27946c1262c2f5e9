"""Pages that say how Victoria is: whether it lives, whether it is ready, and what there is."""

import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import anyio
import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from deploy.embedded import find
from deploy.observed import standing
from deploy.postgres import POSTGRES
from deploy.victoria import Victoria, foreground, no_such_model
from gateway.http.bodies import Json
from gateway.http.door import Door
from gateway.http.failure import RETRY_AFTER
from gateway.http.metrics import CONTENT_TYPE
from gateway.http.pages import Page, Reply
from gateway.serve import missing_stages
from llm.models import Offer
from schemas.errors import VictoriaError
from schemas.events import GoalSubmitted
from streams.connection import TROUBLE, reachable
from streams.groups import FOLLOWER
from streams.lag import Lag
from streams.recent import Recent

FRESH = 1.0
"""Seconds for which what was found is good: however many ask, the server is asked once."""
WITHIN = 2.0
"""Seconds in which the server must answer to count as ready."""


_log: Any = structlog.get_logger()


class Alive(msgspec.Struct, frozen=True):
    """This process answers."""

    status: str = "ok"


class Dependency(msgspec.Struct, frozen=True):
    """One thing that runs need; `hint` says what to do where it is missing."""

    name: str
    ready: bool
    message: str
    hint: str = ""


class Ready(msgspec.Struct, frozen=True):
    """Whether a goal that comes now is carried out; `missing` names what keeps it from that. The `database` is named
    where history is kept, and never missing: what is to be written there waits."""

    ready: bool
    missing: tuple[str, ...]
    dependencies: tuple[Dependency, ...]


class Levels(msgspec.Struct, frozen=True):
    """Which of Victoria's three levels the settings turn on. Nothing is of the level `initiative` yet."""

    agent: bool
    enhanced: bool
    initiative: bool


class StageStatus(msgspec.Struct, frozen=True):
    """A stage: its live workers, of the partition that has least; its entries not yet given to one, null where the
    server lost count; those in hand, and those put off for a retry."""

    name: str
    workers: int
    lag: int | None
    pending: int
    delayed: int


class ModelStatus(msgspec.Struct, frozen=True):
    """A model that an inference consumer offers; `node` is its server, empty for those in the consumer's process."""

    name: str
    backend: str
    node: str
    context: int
    loaded: bool
    in_flight: int
    slots: int
    breaker: str


class Backlog(msgspec.Struct, frozen=True):
    """Goals at intake that nobody has understood yet, null where the server lost count. From `limit` of a partition on
    more are refused; 0 is no limit."""

    waiting: int | None
    limit: int


class Status(msgspec.Struct, frozen=True):
    """What this installation is, what works in it, and how much it has to do. `load` counts requests for runs that
    this process has in hand; `history` is how far behind it is what is written to the database, null where nobody ever
    wrote there."""

    agent: str
    version: str
    python: str
    server: str
    victoria_levels: Levels
    stages: tuple[StageStatus, ...]
    models: tuple[ModelStatus, ...]
    load: int
    backlog: Backlog
    history: Lag | None = None


@dataclass(frozen=True, slots=True)
class Found(standing.Found):
    """What there was a moment ago; also the stages that are needed, and what inference consumers offer."""

    stages: Sequence[str] = ()
    offers: Sequence[Offer] = ()


class Health:
    """The pages about how Victoria is."""

    def __init__(self, door: Door) -> None:
        self._door, self._victoria = door, door.victoria
        self._looks = Recent(lambda: look(door.victoria))

    @property
    def pages(self) -> list[Page]:
        """Their rows of the table."""
        return [
            Page(
                method="GET",
                path="/status",
                serve=self.status,
                summary="Levels, versions, stages, models and load",
                replies={200: Reply("How it is.", Status)},
                tag="Health",
            ),
            Page(
                method="GET",
                path="/livez",
                serve=self.livez,
                summary="Whether this process answers",
                replies={200: Reply("It does.", Alive)},
                scope="",
                tag="Health",
            ),
            Page(
                method="GET",
                path="/readyz",
                serve=self.readyz,
                summary="Whether everything that runs need is there",
                replies={
                    200: Reply("It is.", Ready),
                    503: Reply("Something is missing.", Ready, headers={"Retry-After": "Seconds to wait."}),
                },
                scope="",
                tag="Health",
            ),
            Page(
                method="GET",
                path="/metrics",
                serve=self.metrics,
                summary="Figures for Prometheus",
                replies={200: Reply("Its text format.", media="text/plain")},
                tag="Health",
            ),
        ]

    async def found(self) -> Found:
        """What there is now, or was a second ago. Raises redis errors."""
        return await self._looks.within(FRESH)

    async def status(self, _request: Request) -> Response:
        """`GET /status`."""
        return Json(status_of(self._victoria, await self.found(), self._door.agent, self._door.load))

    async def livez(self, _request: Request) -> Response:
        """`GET /livez`: checks nothing else."""
        return Json(Alive())

    async def readyz(self, _request: Request) -> Response:
        """`GET /readyz`: looks at each dependency now."""
        server = await self._server()
        needed = [server, await self._stages(), await self._model()] if server.ready else [server]
        if not self._door.local:
            needed = [_told_anybody(each) for each in needed]
        missing = tuple(each.name for each in needed if not each.ready)
        headers = {"Retry-After": str(math.ceil(RETRY_AFTER))} if missing else None
        optional = [await self._database()] if self._keeps_history else []
        return Json(Ready(not missing, missing, (*needed, *optional)), 503 if missing else 200, headers)

    async def metrics(self, _request: Request) -> Response:
        """`GET /metrics`: also while the server is away, then without what only that knows."""
        told = self._door.metrics
        told.in_hand.set(self._door.load)
        try:
            with anyio.fail_after(WITHIN):
                found = await self.found()
        except TROUBLE:
            found = Found()
        told.standing.tell(found, found.stages)
        return Response(told.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _server(self) -> Dependency:
        try:
            with reachable(self._victoria.url), anyio.fail_after(WITHIN):
                await self._victoria.client.execute_command("PING")
        except VictoriaError as problem:
            return _without("server", problem)
        return Dependency("server", True, "It answers.")

    async def _stages(self) -> Dependency:
        try:
            with reachable(self._victoria.url):
                missing = await missing_stages(self._victoria)
        except VictoriaError as problem:
            return _without("stages", problem)
        if missing:
            return Dependency("stages", False, f"No worker for {', '.join(missing)}.", "Start them: victoria up.")
        return Dependency("stages", True, "Each has a worker.")

    @property
    def _keeps_history(self) -> bool:
        settings = self._victoria.settings
        return settings.history or bool(settings.database_url)

    async def _database(self) -> Dependency:
        settings, database = self._victoria.settings, self._victoria.database
        if database is None:
            there = await anyio.to_thread.run_sync(find, settings.state_dir / "postgres", POSTGRES)
            if there:
                return Dependency("database", True, "The embedded one answers.")
            return Dependency("database", False, "The embedded one is not running.", "It starts with: victoria up.")
        try:
            with anyio.fail_after(WITHIN):
                async with database.connection() as connection:
                    await connection.fetchval("SELECT 1")
        except TimeoutError:
            return Dependency("database", False, "It takes too long to answer.", "See what else it is busy with.")
        except VictoriaError as problem:
            return _without("database", problem)
        return Dependency("database", True, "It answers.")

    async def _model(self) -> Dependency:
        wish = self._victoria.engines.wish
        if wish.engine == "none":
            return Dependency("model", True, "None is wanted: rules alone answer.")
        try:
            with reachable(self._victoria.url):
                said = await self._victoria.board.announcements(fresh=True)
        except VictoriaError as problem:
            return _without("model", problem)
        offers = [offer for each in said for offer in each.offers]
        fit = sorted({offer.model.name for offer in offers if wish.accepts(offer.model) and offer.state != "open"})
        if fit:
            return Dependency("model", True, f"There is {', '.join(fit)}.")
        if broken := next((offer.error for offer in offers if wish.accepts(offer.model) and offer.error), None):
            return Dependency("model", False, broken.message, broken.hint)
        faults = [fault.error for each in said for fault in each.faults]
        return _without("model", no_such_model(wish, [offer.model for offer in offers], faults))


def _told_anybody(found: Dependency) -> Dependency:
    """Where the server is, and what else is wrong with it, is for the log: whoever reaches a door may ask."""
    if found.ready:
        return found
    _log.warning("readyz.missing", dependency=found.name, problem=found.message)
    return Dependency(found.name, False, "It is not there.", "The log of the door says why.")


def _without(name: str, problem: VictoriaError) -> Dependency:
    return Dependency(name, False, problem.message, problem.hint)


def status_of(victoria: Victoria, found: Found, agent: str, load: int) -> Status:
    """How Victoria is, by what was found; `load` is this process's."""
    settings = victoria.settings
    lags = {name: Lag.of(measure) for name, measure in found.measures.items()}
    first = lags[victoria.topology.groups(victoria.topology.entries[GoalSubmitted])[0]]
    waiting = None if first.undelivered is None else first.undelivered + first.pending
    return Status(
        agent=agent,
        version=version("victoria-streams"),
        python=platform.python_version(),
        server=found.server,
        victoria_levels=Levels(True, settings.use_victoria_enhanced, settings.enable_event_monitoring),
        stages=tuple(_stage(name, found.workers[name], lags[name]) for name in found.stages),
        models=tuple(map(_model, found.offers)),
        load=load,
        backlog=Backlog(waiting, settings.backlog),
        history=lags.get(FOLLOWER),
    )


async def look(victoria: Victoria) -> Found:
    """What there is now. Raises redis errors."""
    found = await standing.look(victoria)
    return Found(
        found.server,
        found.workers,
        found.measures,
        foreground(await victoria.needed()),
        await victoria.board.offers(),
    )


def _stage(name: str, workers: int, lag: Lag) -> StageStatus:
    return StageStatus(name, workers, lag.undelivered, lag.pending, lag.delayed)


def _model(offer: Offer) -> ModelStatus:
    model = offer.model
    return ModelStatus(
        name=model.name,
        backend=model.engine,
        node=model.node,
        context=model.loaded_context or model.context,
        loaded=model.loaded,
        in_flight=offer.in_flight,
        slots=offer.slots,
        breaker=offer.state,
    )
