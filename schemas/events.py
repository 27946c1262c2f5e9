"""Every event Victoria says, as frozen typed records. `victoria events` prints this catalogue.

An event class's name is its type on the stream. A change of fields raises `version` and adds an entry to `upgrades`:
a function from the old fields (a dict) to the next version's, so that old entries stay readable for ever.
"""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from schemas.errors import ErrorInfo
from schemas.inference import ChatMessage, Priority
from schemas.plan import (
    Caching,
    Category,
    Done,
    Known,
    Moment,
    Plan,
    Progress,
    Seen,
    Source,
    Spent,
    Step,
    StepStatus,
    TaskKind,
    ToolCall,
    Trust,
    Usage,
    Verdict,
)

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

    `setting` is what its sender's program says of the whole conversation: data like all else. `strategy` and `expert`
    are the ones that are wanted, "" for whatever fits best. `delegated_by` is the agent whose work this is: it is not
    handed on once more. `cache` says whether an answer that is known already will do; only what the same `asker` was
    told is known, as far as a door can tell.
    """

    goal: str
    project: str = ""
    session: str = ""
    history: tuple[Exchange, ...] = ()
    setting: str = ""
    strategy: str = ""
    expert: str = ""
    delegated_by: str = ""
    asker: str = ""
    cache: Caching = "use"


class GoalUnderstood(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The goal in one clear sentence.

    `calls` are tool calls that rules are sure of, in order; `question` is what is left for a model beside them, and
    `question_alone` says that it needs nothing of what they give; `confidence` is 0 to 1. `expert` is who it is for, as
    far as that is known, `strategy` the one that is wanted. `context` is what the goal was said in: data for prompts.
    `delegated_by` is the agent whose work this is. Under `answer_key` its answer may be kept, "" for not at all.
    """

    restated: str
    category: Category
    kind: TaskKind
    first_step: str = ""
    project: str = ""
    session: str = ""
    context: str = ""
    expert: str = ""
    strategy: str = ""
    calls: tuple[ToolCall, ...] = ()
    question: str = ""
    question_alone: bool = False
    confidence: float = 0.0
    source: Literal["rules", "model"] = "rules"
    delegated_by: str = ""
    answer_key: str = ""
    spent: tuple[Spent, ...] = ()


class AnswerFound(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The goal's answer is `known` from an earlier run, and what it rests on has not changed: this run ends with it.
    `method`, `model` and `expert` are how that run came to it."""

    restated: str
    output: str
    known: Known
    method: str
    model: str
    expert: str = ""
    project: str = ""
    session: str = ""
    spent: tuple[Spent, ...] = ()


def _step_with_how(step: Fields, strategy: str) -> Fields:
    """Steps said with `final` and their plan's strategy how they are carried out."""
    how = "tool" if step.get("final") and step.get("call") else "react" if strategy == "react" else "answer"
    return {**step, "how": how}


def _plan_with_how(fields: Fields) -> Fields:
    plan = fields["plan"]
    steps = [_step_with_how(step, plan["strategy"]) for step in plan.get("steps", ())]
    return {**fields, "plan": {**plan, "steps": steps}}


class PlanProposed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A checked plan for a run. An empty plan says in `plan.notes` why nothing can be done.

    `revision` counts how often what was left of a plan was planned anew: then it holds only that.
    """

    version: ClassVar[int] = 2
    upgrades: ClassVar[dict[int, Callable[[Fields], Fields]]] = {1: _plan_with_how}

    restated: str
    plan: Plan
    project: str = ""
    session: str = ""
    context: str = ""
    expert: str = ""
    revision: int = 0
    answer_key: str = ""
    spent: tuple[Spent, ...] = ()


class ReplanRequested(Event, frozen=True, kw_only=True, omit_defaults=True):
    """What is left of a plan is to be planned again, for the `revision`-th time, because of `why`: a step that failed
    for good, or what the user said meanwhile. `done` has ended and stays; `left` was planned and has not begun."""

    restated: str
    revision: int
    why: str
    done: tuple[Done, ...] = ()
    left: tuple[Step, ...] = ()
    strategy: str = ""
    project: str = ""
    session: str = ""
    context: str = ""
    expert: str = ""


class StepReady(Event, frozen=True, kw_only=True, omit_defaults=True):
    """All that a step depends on is done: carry it out. `inputs` maps those steps' ids to their outputs.

    A step that goes on where it stopped has its `progress`, and the `reply` to what it asked the user.
    """

    version: ClassVar[int] = 2
    upgrades: ClassVar[dict[int, Callable[[Fields], Fields]]] = {
        1: lambda fields: {**fields, "step": _step_with_how(fields["step"], fields["strategy"])}
    }

    step: Step
    goal: str
    project: str = ""
    session: str = ""
    context: str = ""
    inputs: dict[str, str] = {}
    progress: Progress | None = None
    reply: str = ""


class DelegationRequested(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A step is to be done by another agent, `step.agent`."""

    step: Step
    goal: str
    project: str = ""
    context: str = ""
    inputs: dict[str, str] = {}


class StepFinished(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A step ended, with its output or with the error that says why not. `source` is who made the output, and `agent`
    which other agent. A step that `settles` its run makes what has not ended yet needless: it has the answer. `note` is
    what the run's people should know of how it was done. `sources` are all that its output rests on beside its inputs
    and a model, None where that is not known."""

    version: ClassVar[int] = 2
    upgrades: ClassVar[dict[int, Callable[[Fields], Fields]]] = {
        1: lambda fields: {
            **fields,
            "source": "model"
            if fields.get("method", "rules") != "rules"
            else "tool"
            if fields.get("tools")
            else "rules",
        }
    }

    step_id: str
    status: StepStatus
    output: str = ""
    source: Source = "rules"
    agent: str = ""
    expert: str = ""
    tools: tuple[str, ...] = ()
    settles: bool = False
    note: str = ""
    error: ErrorInfo | None = None
    spent: Spent | None = None
    sources: tuple[Seen, ...] | None = None


class QuestionAsked(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A step can't go on before a person answers; it waits without a worker. An empty `choices` is any answer.

    `approval` says that it is asked whether a tool may be used. Who does not answer until `expires`, does not.
    """

    question_id: str
    step_id: str
    question: str
    choices: tuple[str, ...] = ()
    approval: bool = False
    expires: Moment | None = None
    progress: Progress = Progress()
    spent: Spent | None = None


class QuestionAnswered(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A person's answer to a step's question."""

    question_id: str
    answer: str


class StepHandedOff(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An expert has met what it can't do: the step goes to `expert`, who says to have the `capability`, or, if that is
    "", to nobody."""

    step_id: str
    capability: str
    expert: str = ""
    reason: str = ""
    progress: Progress = Progress()
    spent: Spent | None = None


class DeadlineSet(Event, frozen=True, kw_only=True, omit_defaults=True):
    """At a time, a run is to hear that it has come. `question_id` is whose deadline it is, "" for the run's."""

    at: Moment
    question_id: str = ""


class DeadlinePassed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A deadline that was set has come."""

    question_id: str = ""


class AnswersCollected(Event, frozen=True, kw_only=True, omit_defaults=True):
    """All steps of a run have ended, and of `count` different answers one is to be made. Until it is, the run can be
    ended with these."""

    count: int = 0


class StageFailed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A stage gave up on an event of this run (its dead letter says more): the run ends as failed."""

    stage: str
    error: ErrorInfo


class CancelRequested(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody wants a run to end now. What is under way for it is stopped, what was done already is its output."""

    reason: str = ""


class RunProgressed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Something people following a run want to see. A question has the `question_id` it is answered by."""

    kind: Literal["understood", "plan", "task_start", "task_end", "question", "handoff", "delegated"]
    stage: str
    text: str = ""
    step_id: str = ""
    status: StepStatus | None = None
    plan: Plan | None = None
    question_id: str = ""
    choices: tuple[str, ...] = ()


class StageTime(msgspec.Struct, frozen=True):
    """One stage's part in a run: wall seconds from its input's arrival to its output's, and model usage."""

    stage: str
    seconds: float
    events: int = 1
    usage: Usage = Usage()


class StepSummary(msgspec.Struct, frozen=True):
    """How one step ended, and who did it: `expert`, at another `agent`'s if that is named. `seconds` is wall time."""

    id: str
    title: str
    status: StepStatus
    tools: tuple[str, ...] = ()
    error: ErrorInfo | None = None
    expert: str = ""
    agent: str = ""
    seconds: float = 0.0
    usage: Usage = Usage()


class Metadata(msgspec.Struct, frozen=True):
    """How an answer came about. `source` is who made it: rules, a tool, a model, or another agent.

    `model` is the one that answered last, "none" if none did, `node` its server (Usage). Of `tokens_in` the engines had
    `tokens_cached` in memory already. `calls` counts answers of models.
    """

    model: str
    source: Source
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
    """The one end of a run. `method` is its plan's strategy, or "rules" where no model had a part in its answer. One
    that was stopped at a limit is completed, with what there was by then, and `error` says which limit. `known` is the
    earlier run whose answer this is; then no model was asked."""

    ends_run: ClassVar[bool] = True

    status: Literal["completed", "failed", "cancelled"]
    output: str
    method: str
    metadata: Metadata
    stages: tuple[StageTime, ...]
    error: ErrorInfo | None = None
    known: Known | None = None


class ExchangeCompleted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A session's turn ended. Where its run was completed, goal and output are an exchange worth keeping; `expert` is
    who answered, "" for nobody in particular. `project` is where."""

    session: str
    goal: str
    output: str
    status: Literal["completed", "failed", "cancelled"]
    expert: str = ""
    project: str = ""


class MemoryKept(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Something is worth knowing in later runs of a project, or, where it has a `session`, of that session. `trust`
    says whose words it is, and `source` where they come from: `run:ID`, `hypothesis:ID`."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=8_000)]
    project: str = ""
    session: str = ""
    tag: Annotated[str, msgspec.Meta(max_length=40)] = ""
    trust: Trust = "user"
    source: str = ""


class HypothesisRaised(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Something may be so: it is to be found out. `evidence` is what spoke for it or against it so far, `source` who or
    what raised it. In a run of its own it begins that; elsewhere it is given one."""

    statement: Annotated[str, msgspec.Meta(min_length=1, max_length=2_000, pattern=r"\S")]
    project: str = ""
    session: str = ""
    evidence: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=2_000)], ...], msgspec.Meta(max_length=20)] = ()
    source: Annotated[str, msgspec.Meta(max_length=200)] = ""


class ValidationFinished(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A run that was to find out about a `hypothesis` has ended, however it did. `validation` is that run."""

    hypothesis: str
    validation: str
    status: Literal["completed", "failed", "cancelled"]
    output: str = ""
    source: Source = "rules"
    error: ErrorInfo | None = None


class ValidationDue(Event, frozen=True, kw_only=True, omit_defaults=True):
    """At a time, a hypothesis is judged by what is known then."""

    at: Moment


class HypothesisJudged(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The one end of a hypothesis. `confidence`, 0 to 1, is how sure the verdict is, `evidence` what was found word for
    word, `why` the reason in a sentence. Only what is confirmed is knowledge."""

    ends_run: ClassVar[bool] = True

    statement: str
    verdict: Verdict
    confidence: Annotated[float, msgspec.Meta(ge=0, le=1)]
    evidence: tuple[str, ...] = ()
    why: str = ""
    project: str = ""
    session: str = ""
    source: str = ""


class InferenceRequested(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A stage asks a model. The answer goes into the run's journal under `effect`; `reply_to` hears that it is there.

    `request` is the hash by which the journal knows the question; `deadline` is when nobody waits any more. `model` is
    the one that was chosen, `step` the plan's step that asks. One that `outlives_run` is answered after its end.
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
    outlives_run: bool = False


class AnswerProgressed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of a model's text as it comes, on its run's feed. `offset` is how many characters came before it; where
    it is 0 an answer begins, perhaps anew after a crash. `step` is the plan's step that asked, "" for none."""

    effect: str
    offset: int
    text: str
    step: str = ""
