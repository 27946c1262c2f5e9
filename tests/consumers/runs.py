"""Runs for tests of aggregate: their events, and a run that is moved by them without a server."""

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec

from consumers import aggregate
from consumers.runs.moves import AggregateEvent
from consumers.runs.state import RunState, StepState
from schemas.errors import ErrorInfo
from schemas.events import (
    AnswersCollected,
    DeadlineSet,
    DelegationRequested,
    Event,
    PlanProposed,
    QuestionAsked,
    ReplanRequested,
    RunFinished,
    RunProgressed,
    StepFinished,
    StepHandedOff,
    StepReady,
)
from schemas.plan import Plan, Progress, Spent, Step, StepStatus, Usage
from streams.testing import ScriptedContext
from tests.consumers.events import START, after, unlisted

FINAL = {"ok", "partial", "failed", "blocked", "skipped"}


def step(id_: str, *needs: str, **more: Any) -> Step:
    return Step(id_, f"title {id_}", f"Do {id_}.", depends_on=needs, **more)


def proposed(*steps: Step, notes: tuple[str, ...] = (), revision: int = 0, **plan: Any) -> PlanProposed:
    spent = (Spent("understand", START, Usage("tiny", 1, 5, 6, 0.5)), Spent("plan", after(1)))
    return PlanProposed(
        restated="Do all.",
        plan=Plan("react", steps, notes=notes, **plan),
        project="shop",
        revision=revision,
        spent=spent,
    )


def ended(
    id_: str, status: StepStatus = "ok", output: str = "", error: ErrorInfo | None = None, **more: Any
) -> StepFinished:
    spent = Spent("step-execute", after(2), Usage("big", 1, 10, 20, 0.25))
    return StepFinished(
        step_id=id_, status=status, output=output or f"out {id_}", source="model", spent=spent, error=error, **more
    )


def asks(id_: str, question_id: str = "q", **more: Any) -> QuestionAsked:
    progress = Progress(2, ("saw a",), ("call a",), ("read_file",), "so far", "pending call")
    spent = Spent("step-execute", after(2), Usage("big", 1, 10, 20, 0.25))
    return QuestionAsked(
        question_id=question_id,
        step_id=id_,
        question="Which one?",
        expires=after(500),
        progress=progress,
        spent=spent,
        **more,
    )


def hands(id_: str, expert: str, capability: str = "calendar") -> StepHandedOff:
    spent = Spent("step-execute", after(2), Usage("big", 1, 10, 20, 0.25))
    return StepHandedOff(
        step_id=id_, capability=capability, expert=expert, progress=Progress(observations=("saw a",)), spent=spent
    )


def at_once(handling: Coroutine[Any, Any, list[Event]]) -> list[Event]:
    """Handle without an event loop, which hypothesis' own control flow does not get through."""
    try:
        handling.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("aggregate waited for something without a model")


@dataclass
class Run:
    """A run whose events are handled one after the other, its state stored between them as the hop does it."""

    state: RunState = field(default_factory=RunState)
    said: list[Event] = field(default_factory=list[Event])
    seconds: float = 2.0

    def __call__(self, *events: AggregateEvent) -> list[Event]:
        """What the last of these events led to."""
        said: list[Event] = []
        coming = list(events)
        for event in coming:
            self.seconds += 1
            ctx = ScriptedContext(self.state, now=after(self.seconds))
            said = at_once(aggregate.handle(event, ctx, unlisted))
            self.state = msgspec.json.decode(msgspec.json.encode(ctx.state), type=RunState)
            assert self.state == ctx.state, "state survives being stored"
            self.said += said
            coming += [event for event in said if isinstance(event, AnswersCollected)]
        return said

    def __getitem__(self, id_: str) -> StepState:
        return self.state.steps[id_]

    @property
    def released(self) -> list[StepReady]:
        return [event for event in self.said if isinstance(event, StepReady)]

    @property
    def delegated(self) -> list[DelegationRequested]:
        return [event for event in self.said if isinstance(event, DelegationRequested)]

    @property
    def replans(self) -> list[ReplanRequested]:
        return [event for event in self.said if isinstance(event, ReplanRequested)]

    @property
    def deadlines(self) -> list[DeadlineSet]:
        return [event for event in self.said if isinstance(event, DeadlineSet)]

    @property
    def progress(self) -> list[RunProgressed]:
        return [event for event in self.said if isinstance(event, RunProgressed)]

    @property
    def ends(self) -> list[RunFinished]:
        return [event for event in self.said if isinstance(event, RunFinished)]

    @property
    def end(self) -> RunFinished:
        """Its one end."""
        (end,) = self.ends
        return end

    @property
    def status(self) -> dict[str, StepStatus]:
        return {id_: s.status for id_, s in self.state.steps.items()}

    @property
    def running(self) -> list[str]:
        return [id_ for id_, status in self.status.items() if status == "running"]

    @property
    def waiting(self) -> list[str]:
        return [id_ for id_, status in self.status.items() if status == "waiting"]
