"""What aggregate knows of a run: its plan, where each step stands, and how it ended. Only data: see moves.py."""

from typing import Literal

import msgspec

from schemas.errors import ErrorInfo
from schemas.events import ExchangeCompleted, RunFinished
from schemas.plan import Moment, Plan, Progress, Seen, Source, Spent, Step, StepStatus, Trust, Usage

STAGE = "aggregate"
UNLOCKS = ("ok", "partial")
"""Statuses that let dependants go on."""
OPEN = ("pending", "running", "waiting")
"""Statuses of steps that have not ended."""


class Asking(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a step has asked a person, and until when somebody may answer."""

    id: str
    question: str
    choices: tuple[str, ...] = ()
    approval: bool = False
    asked_at: Moment | None = None
    expires: Moment | None = None


class StepState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one step stands, and what it left. `seconds` is wall time of its stages.

    `experts` are those who had it before it was handed to the step's own. One that was under way already has its
    `progress`; while it waits, `asking` says for what, and then `reply` is what was answered. `sources` are what its
    output rests on, None where that is not known.
    """

    status: StepStatus = "pending"
    output: str = ""
    source: Source = "rules"
    expert: str = ""
    agent: str = ""
    tools: tuple[str, ...] = ()
    error: ErrorInfo | None = None
    usage: Usage = Usage()
    seconds: float = 0.0
    experts: tuple[str, ...] = ()
    progress: Progress | None = None
    asking: Asking | None = None
    reply: str = ""
    sources: tuple[Seen, ...] | None = None


class RunState(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that aggregate knows of a run. `planned_at` is when its plan arrived, `begun_at` when the first of its steps
    that ended did; `finished` is its one end.

    `revision` counts how often what was left was planned again, `replanning` says that it is being planned now, and
    `again` why it must be once more after that.
    `settled` is the step that made all others needless, `limit` the limit that stops the run; `asked` has the ids of
    all questions. `answer_key` is where its answer is kept, if it may be.
    """

    goal: str = ""
    project: str = ""
    session: str = ""
    context: str = ""
    expert: str = ""
    plan: Plan | None = None
    steps: dict[str, StepState] = {}
    revision: int = 0
    replanning: bool = False
    again: str = ""
    settled: str = ""
    limit: ErrorInfo | None = None
    notes: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    answer_key: str = ""
    spent: tuple[Spent, ...] = ()
    planned_at: Moment | None = None
    begun_at: Moment | None = None
    trust: Trust = "operator"
    finished: RunFinished | None = None


def is_over(state: RunState) -> bool:
    """Whether every step has its final status, and none is to come."""
    return not state.replanning and all(step.status not in OPEN for step in state.steps.values())


def answers(state: RunState) -> list[tuple[Step, str]]:
    """Steps that have something to say and their outputs, in plan order: those for the user, or else inner ones."""
    steps = state.plan.steps if state.plan else ()
    said = [(s, state.steps[s.id].output) for s in steps if state.steps[s.id].status in UNLOCKS]
    return [(step, output) for step, output in said if not step.inner] or said


def waiting(state: RunState) -> list[tuple[str, Asking]]:
    """The questions that wait for a person, with the ids of their steps."""
    return [(id_, s.asking) for id_, s in state.steps.items() if s.status == "waiting" and s.asking]


def exchange(state: RunState) -> ExchangeCompleted | None:
    """What the session hears of a run's end, if the run has one and belongs to one."""
    end = state.finished
    if end is None or not state.session:
        return None
    return ExchangeCompleted(
        session=state.session,
        goal=state.goal,
        output=end.output,
        status=end.status,
        expert=answered_by(state),
        project=state.project,
    )


def answered_by(state: RunState) -> str:
    """The expert who answered, "" for nobody in particular: it may have been handed on."""
    experts = {step.expert for step in state.steps.values() if step.expert and step.status in UNLOCKS}
    return experts.pop() if len(experts) == 1 else state.expert


RunEnd = Literal["completed", "failed", "cancelled"]
