"""Every event Victoria says, as frozen typed records. `victoria events` prints this catalogue.

An event class's name is its type on the stream. A change of fields raises `version` and adds an entry to `upgrades`:
a function from the old fields (a dict) to the next version's, so that old entries stay readable for ever.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import msgspec

from schemas.errors import ErrorInfo
from schemas.inference import ChatMessage, Priority
from schemas.plan import Category, Moment, Plan, Spent, Step, StepStatus, TaskKind, ToolCall, Usage

Fields = dict[str, Any]


CATALOGUE: dict[str, type["Event"]] = {}
"""Every event type by its name on the stream."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all events: a fact in the past tense, or a request, about one run. A subclass is in the catalogue.

    What `ends_run` is a run's last event: from then on what is kept of the run is kept for a limited time.
    """

    version: ClassVar[int] = 1
    ends_run: ClassVar[bool] = False
    upgrades: ClassVar[dict[int, Callable[[Fields], Fields]]] = {}

    def __init_subclass__(cls) -> None:
        CATALOGUE[cls.__name__] = cls


class Exchange(msgspec.Struct, frozen=True):
    """One earlier turn of a conversation."""

    user: str
    assistant: str


class GoalSubmitted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody wants something done. `project` names an allowed project, "" the main one.

    `delegated_by` names the agent that handed it over, so that it is not handed on.
    """

    goal: str
    project: str = ""
    session: str = ""
    history: tuple[Exchange, ...] = ()
    delegated_by: str = ""


class GoalUnderstood(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The goal in one clear sentence.

    `calls` are tool calls that rules are sure of, in order; `question` is what is left for a model beside them, and
    `question_alone` says that it needs nothing of what they give; `confidence` is 0 to 1.
    """

    restated: str
    category: Category
    kind: TaskKind
    first_step: str = ""
    project: str = ""
    session: str = ""
    calls: tuple[ToolCall, ...] = ()
    question: str = ""
    question_alone: bool = False
    confidence: float = 0.0
    source: Literal["rules", "model"] = "rules"
    spent: tuple[Spent, ...] = ()


class PlanProposed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A checked plan for a run. An empty plan says in `plan.notes` why nothing can be done."""

    restated: str
    plan: Plan
    project: str = ""
    session: str = ""
    spent: tuple[Spent, ...] = ()


class StepReady(Event, frozen=True, kw_only=True, omit_defaults=True):
    """All that a step depends on is done: carry it out. `inputs` maps those steps' ids to their outputs."""

    step: Step
    goal: str
    strategy: Literal["rules", "simple", "react"]
    project: str = ""
    inputs: dict[str, str] = {}


class StepFinished(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A step ended, with its output or with the error that says why not."""

    step_id: str
    status: StepStatus
    output: str = ""
    method: Literal["rules", "simple", "react"] = "rules"
    tools: tuple[str, ...] = ()
    error: ErrorInfo | None = None
    spent: Spent | None = None


class StageFailed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A stage gave up on an event of this run (its dead letter says more): the run ends as failed."""

    stage: str
    error: ErrorInfo


class CancelRequested(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody wants a run to end now. What is under way for it is stopped, what was done already is its output."""

    reason: str = ""


class RunProgressed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Something people following a run want to see."""

    kind: Literal["understood", "plan", "task_start", "task_end"]
    stage: str
    text: str = ""
    step_id: str = ""
    status: StepStatus | None = None
    plan: Plan | None = None


class StageTime(msgspec.Struct, frozen=True):
    """One stage's part in a run: wall seconds from its input's arrival to its output's, and model usage."""

    stage: str
    seconds: float
    events: int = 1
    usage: Usage = Usage()


class StepSummary(msgspec.Struct, frozen=True):
    """How one step ended."""

    id: str
    title: str
    status: StepStatus
    tools: tuple[str, ...] = ()
    error: ErrorInfo | None = None


class Metadata(msgspec.Struct, frozen=True):
    """How an answer came about. `source` is who made it: rules, a tool, or a model.

    `model` is the one that answered last, "none" if none did, `node` its server (Usage). Of `tokens_in` the engines had
    `tokens_cached` in memory already. `calls` counts answers of models.
    """

    model: str
    source: Literal["rules", "tool", "model"]
    delegated_to: str | None
    tokens_in: int
    tokens_out: int
    seconds: float
    steps: tuple[StepSummary, ...]
    notes: tuple[str, ...] = ()
    node: str = ""
    tokens_cached: int = 0
    calls: int = 0


class RunFinished(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The one end of a run."""

    ends_run: ClassVar[bool] = True

    status: Literal["completed", "failed", "cancelled"]
    output: str
    method: Literal["rules", "simple", "react"]
    metadata: Metadata
    stages: tuple[StageTime, ...]
    error: ErrorInfo | None = None


class InferenceRequested(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A stage asks a model. The answer goes into the run's journal under `effect`; `reply_to` hears that it is there.

    `request` is the hash by which the journal knows the question; `deadline` is when nobody waits any more. `model` is
    the one that was chosen, `step` the plan's step that asks.
    """

    effect: str
    request: str
    messages: tuple[ChatMessage, ...]
    max_tokens: int
    reply_to: str
    deadline: Moment
    answer_schema: dict[str, Any] | None = None
    priority: Priority = "interactive"
    model: str = ""
    step: str = ""


class AnswerProgressed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of a model's text as it comes, on its run's feed. `offset` is how many characters came before it; where
    it is 0 an answer begins, perhaps anew after a crash. `step` is the plan's step that asked, "" for none."""

    effect: str
    offset: int
    text: str
    step: str = ""
