"""An opened Victoria: what doors do with it, and the workers it has."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import structlog

from consumers.admission import admit
from consumers.agents.waited import Waited
from consumers.hypotheses import Hypotheses
from consumers.offers import Board, OfferRouter, backend_of
from consumers.postgres.database import Database
from consumers.postgres.memories import Memories
from consumers.questions import OpenQuestion, Questions
from consumers.remember import NAME as REMEMBER
from consumers.runs.state import STAGE as AGGREGATE
from consumers.runs.view import PlanView, RunView, Stored, goal_of, plan_view, stored, view
from consumers.sessions import Sessions
from consumers.understand import NAME as UNDERSTAND
from deploy.embedders import Embedders
from deploy.engines import Engines
from deploy.observed.figures import Figures
from deploy.observed.many import together
from deploy.projects import Projects
from deploy.settings import Settings
from llm.models import BACKENDS, Backend, Model, Wish
from schemas.errors import (
    CouldNotStart,
    ErrorInfo,
    InvalidInput,
    NotReachable,
    Published,
    VictoriaError,
)
from schemas.events import CancelRequested, Event, GoalSubmitted, QuestionAnswered
from schemas.plan import Limits
from streams.append import Publisher
from streams.connection import Client, reachable, server_ms
from streams.keys import Keys
from streams.lag import InLine, Lag, Measure, lags, lines, totals
from streams.topology import Topology
from streams.worker import Companion, Terms, Worker, is_gone

if TYPE_CHECKING:
    from deploy.observed.traces import Traces

LOOK_FOR_MODEL = 20.0
"""Seconds in which consumers that were started must say what they offer."""

_log: Any = structlog.get_logger()


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
    sessions: Sessions
    board: Board
    engines: Engines
    evicts: str = ""
    """The server's maxmemory-policy, if by that whole streams may go when its memory is full."""
    database: Database | None = None
    """The one that is configured, if one is; connected to when first used."""
    memories: Memories | None = None
    """What runs left behind, in that database or the embedded one; none where neither keeps history."""
    embedders: Embedders | None = None
    figures: Figures | None = None
    """What Prometheus is told of this process's work, where it is."""
    traces: "Traces | None" = None
    """The spans of this process's work, where they are exported."""

    async def needed(self) -> tuple[str, ...]:
        """The stages these settings need, of the inference consumers those that may have the model."""
        wanted = await self.engines.wanted()
        return tuple(stage.name for stage in self.topology.stages if backend_of(stage.name) in (None, *wanted))

    def require_stages(self, names: Iterable[str]) -> tuple[str, ...]:
        """The named stages, with `infer.x` also `infer.x.background`. Raises InvalidInput with code `stage.unknown`."""
        known = [stage.name for stage in self.topology.stages]
        for name in names:
            if name not in known:
                raise InvalidInput("stage.unknown", f"There is no stage {name!r}.", f"Stages: {', '.join(known)}.")
        wanted = {*names, *(f"{name}.background" for name in names)}
        return tuple(name for name in known if name in wanted)

    async def live(self) -> dict[str, int]:
        """How many live consumers each stage has, over all partitions the least.

        One of this machine whose process is gone does not count, though its lease may still last. The time is any
        server's: leases last far longer than the clocks of a cluster's servers differ.
        """
        now = await server_ms(self.client)
        leases = [(stage.name, p) for stage in self.topology.stages for p in self.keys.of_stream(stage.reads)]
        pipeline: Any = self.client.pipeline(transaction=False)
        for name, partition in leases:
            pipeline.zrangebyscore(self.keys.leases(partition, name), now, "+inf")
        found: dict[str, int] = {}
        for (name, _), held in zip(leases, await pipeline.execute(), strict=True):
            alive = sum(not is_gone(consumer.decode()) for consumer in held)
            found[name] = min(alive, found.get(name, alive))
        return found

    def worker(self, stages: Sequence[str]) -> Worker:
        """A worker for some stages. `ready` loads what they need; otherwise the first question does."""
        s = self.settings
        if self.evicts:
            _log.warning("server.evicts", policy=self.evicts)
        terms = Terms(
            lease=s.lease,
            grace=s.grace,
            model_timeout=s.model_timeout,
            model_wait=s.model_wait,
            keep=s.keep,
            keep_entries=s.keep_entries,
            keep_dead=s.keep_dead,
        )
        companions: list[Companion] = [self.engines.consumers[engine].attend for engine in backends_of(stages)]
        if AGGREGATE in stages:  # it ends what nobody waits for
            companions.append(self.waited.watch)
        if self.memories and self.embedders and {UNDERSTAND, REMEMBER} & {*stages}:
            companions.append(self.embedders.attend)
        if self.memories and REMEMBER in stages:
            companions.append(self.memories.attend)
        observer = together(self.figures, self.traces)
        return Worker(stages, self.topology, self.client, self.keys, self.router, terms, companions, observer)

    @property
    def router(self) -> OfferRouter:
        """Chooses models as these settings say."""
        return OfferRouter(self.board, self.engines.wish, self.engines.priority)

    async def ready(self, stages: Sequence[str]) -> None:
        """Load what the stages need before they read anything. Raises CouldNotStart."""
        await self.engines.load(backends_of(stages))

    async def require_model(self) -> None:
        """See that somebody offers the model that these settings name, if they do.

        Call it once inference consumers are at work. Raises NotReachable `model.unreachable`, CouldNotStart
        `model.missing`.
        """
        wish = self.engines.wish
        if wish.engine == "none" or not (wish.engine or wish.model):
            return
        give_up = anyio.current_time() + LOOK_FOR_MODEL
        while True:
            said = await self.board.announcements(fresh=True)
            offers = [offer.model for each in said for offer in each.offers]
            if any(map(wish.accepts, offers)):
                return
            faults = [fault.error for each in said for fault in each.faults]
            if offers or faults or anyio.current_time() > give_up:
                break
            await anyio.sleep(0.05)
        raise no_such_model(wish, offers, faults)

    async def lags(self) -> dict[str, Lag]:
        """How far each stage is behind. Raises redis errors."""
        return await lags(self.client, self.keys, self.topology)

    async def measures(self) -> dict[str, Measure]:
        """The same in full. Raises redis errors."""
        return await totals(self.client, self.keys, self.topology)

    async def lines(self, stages: Sequence[str], partition: str) -> dict[str, InLine]:
        """The runs whose entries in a partition wait to be given to each of these stages. Raises redis errors."""
        streams = [self.keys.stream(partition, self.topology.stage(stage).reads) for stage in stages]
        return await lines(self.client, dict(zip(stages, streams, strict=True)))

    async def turns_ahead(self, run_id: str) -> int | None:
        """How many runs come before this one in its session's line; None where it stands in none."""
        session = (await self.goal_of(run_id)).session
        return await self.sessions.place(session, run_id) if session else None

    def limits(
        self,
        tokens: int | None = None,
        calls: int | None = None,
        seconds: float | None = None,
        *,
        unattended: bool = False,
        background: bool = False,
    ) -> Limits:
        """What a run may cost that is submitted now: what is given, else what the settings say. `seconds` are those in
        which it must end. 0 is no limit. Raises InvalidInput."""
        settings = self.settings
        try:
            return Limits(
                tokens=settings.run_tokens if tokens is None else tokens,
                calls=settings.run_calls if calls is None else calls,
                ends=datetime.now(UTC) + timedelta(seconds=seconds) if seconds else None,
                unattended=unattended,
                background=background,
            )
        except (ValueError, OverflowError) as cause:
            raise InvalidInput(
                "limits.invalid", f"{seconds} is no number of seconds.", "Say 60 for a minute."
            ) from cause

    async def submit(self, goals: Sequence[tuple[str, GoalSubmitted]], limits: Limits | None = None) -> list[Published]:
        """Publish (run id, goal) pairs; what became of each. Trying again publishes nothing twice. `limits` hold for
        each run, by default those of the settings.

        Raises Overloaded where too many wait already, NotReachable.
        """
        limits = limits or self.limits()
        with reachable(self.url):
            stream = self.topology.entries[GoalSubmitted]
            given = None if limits == Limits() else limits
            return await admit(goals, stream, self.publisher, self.sessions, given)

    async def publish(self, events: Sequence[tuple[str, Event]], limits: Limits | None = None) -> list[Published]:
        """Publish (run id, first event) pairs of one type but goals; what became of each. Trying again publishes
        nothing twice. Raises Overloaded where too many wait already, NotReachable."""
        if not events:
            return []
        with reachable(self.url):
            return await self.publisher.publish(events, self.topology.entries[type(events[0][1])], limits=limits)

    async def cancel(self, run_id: str, reason: str = "") -> None:
        """Ask for a run's end; asking again changes nothing. Raises NotReachable."""
        with reachable(self.url):
            await self.publisher.add(run_id, CancelRequested(reason=reason), self.topology.entries[CancelRequested])

    async def goal_of(self, run_id: str) -> GoalSubmitted:
        """What a run was asked for. Raises InvalidInput with code `run.unknown`."""
        return await goal_of(self.client, self.keys, run_id)

    @property
    def waited(self) -> Waited:
        """Who waits at this door for works of other agents."""
        return Waited(self.client, self.keys, self.publisher, self.topology.entries[CancelRequested])

    @property
    def hypotheses(self) -> Hypotheses:
        """What may be so, and is found out."""
        return Hypotheses(self.client, self.keys, self.publisher)

    @property
    def questions(self) -> Questions:
        """The questions to people that wait."""
        return Questions(self.client, self.keys)

    async def answer(self, question: OpenQuestion, answer: str) -> None:
        """Publish a person's checked answer; the first one counts. Raises NotReachable."""
        event, of = QuestionAnswered(question_id=question.asking.id, answer=answer), question.asking.id
        with reachable(self.url):
            await self.publisher.add(question.run_id, event, self.topology.entries[QuestionAnswered], about=of)

    async def view(self, run_id: str) -> RunView:
        """What is known of a run. Raises InvalidInput with code `run.unknown`."""
        return await view(self.client, self.keys, run_id)

    async def stored(self, run_ids: Sequence[str]) -> list[Stored | Exception]:
        """What there is of some runs, asked for at once; an error for one whose keys are something else. Raises redis
        errors."""
        return await stored(self.client, self.keys, run_ids, self.topology.entries[GoalSubmitted], UNDERSTAND)

    async def plan(self, run_id: str) -> PlanView:
        """A run's plan, as far as it is known. Raises InvalidInput with code `run.unknown`."""
        return await plan_view(self.client, self.keys, run_id)


def no_such_model(wish: Wish, models: Iterable[Model], faults: Sequence[ErrorInfo]) -> VictoriaError:
    """What to raise where these are all models there are and none is the one that is wished for; `faults` are what
    keeps nodes from saying what they have."""
    names = ", ".join(sorted({model.name for model in models}))
    if faults and not names:
        return NotReachable("model.unreachable", f"{wish} can't be asked. {faults[0].message}", faults[0].hint)
    hint = "`victoria models --model auto` shows what there is."
    if wish.model and wish.engine in ("", "ollama"):
        hint = f"`victoria models pull {wish.model}` has Ollama fetch it."
    return CouldNotStart("model.missing", f"There is no model {wish} here; there are: {names or 'none at all'}.", hint)


def backends_of(stages: Iterable[str]) -> list[Backend]:
    """The back ends of those inference stages that are among these."""
    found = {backend_of(stage) for stage in stages}
    return [engine for engine in BACKENDS if engine in found]


def foreground(stages: Iterable[str]) -> list[str]:
    """Without the background stages, which `require_stages` adds to theirs."""
    return [stage for stage in stages if not stage.endswith(".background")]
