"""How events move a run on: pure functions from its state and an event to its next state and what to say.

Every path can be tested without a server. Which steps begin next is decided in release.py, how a run ends in
end.py.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from consumers.runs.check import checked
from consumers.runs.end import counted, ended_early, limited, recalled
from consumers.runs.release import ended, release
from consumers.runs.state import OPEN, STAGE, UNLOCKS, Asking, RunState, StepState, waiting
from schemas.errors import ErrorInfo
from schemas.events import (
    AnswerFound,
    AnswersCollected,
    CancelRequested,
    DeadlinePassed,
    DeadlineSet,
    Event,
    PlanProposed,
    QuestionAnswered,
    QuestionAsked,
    ReplanRequested,
    RunProgressed,
    StageFailed,
    StepFinished,
    StepHandedOff,
)
from schemas.plan import Done, Plan, Spent, Step

REVISIONS = 3
"""How often what is left of a plan may be planned again."""
HANDOFFS = 4
"""How many experts a step may go through."""
NOTE = 500
"""Characters of a step's note."""
OUTPUT_CHARACTERS = 1_000
"""Of each step's output, what those see who plan again."""

Moved = tuple[RunState, list[Event]]
AggregateEvent = (
    AnswerFound
    | AnswersCollected
    | PlanProposed
    | StepFinished
    | StepHandedOff
    | QuestionAsked
    | QuestionAnswered
    | DeadlinePassed
    | StageFailed
    | CancelRequested
)


def move(state: RunState, event: AggregateEvent, now: datetime) -> Moved:
    """One event of a run in; its next state, and what is to be said. A run that has ended is moved by nothing."""
    if state.finished:
        return state, []
    moved, events = _MOVES[type(event)](state, event, now)
    if moved is state or moved.finished or not moved.plan:
        return moved, events
    moved, more = _cut_short(moved)
    moved, released = release(moved)
    return moved, [*events, *more, *released]


def _proposed(state: RunState, event: PlanProposed, now: datetime) -> Moved:
    if state.plan is None and event.revision == 0:
        return _begun(state, event, now), []
    if state.plan and state.replanning and event.revision == state.revision:
        return _again(_revised(state, state.plan, event))
    return state, []


def _begun(state: RunState, event: PlanProposed, now: datetime) -> RunState:
    """The state of a run whose plan has come; checked once more, since anybody may write to a stream."""
    plan = checked(event.plan)
    return replace(
        state,
        goal=event.restated,
        project=event.project,
        session=event.session,
        context=event.context,
        expert=event.expert,
        plan=plan,
        steps={step.id: StepState(expert=step.expert) for step in plan.steps},
        answer_key=event.answer_key,
        spent=event.spent,
        planned_at=now,
    )


def _found(state: RunState, event: AnswerFound, now: datetime) -> Moved:
    """The run's end, where its answer was known before it had a plan."""
    return (recalled(state, event, now) if state.plan is None else state), []


def _revised(state: RunState, plan: Plan, event: PlanProposed) -> RunState:
    """What has begun stays, what has not is replaced by the new plan, whose ids must not be those of what stays."""
    stays = [step for step in plan.steps if not _unbegun(state.steps[step.id])]
    taken = {step.id for step in stays}
    ids = {step.id: f"{event.revision}.{step.id}" for step in event.plan.steps if step.id in taken}

    def fitted(step: Step) -> Step:
        return replace(
            step,
            id=ids.get(step.id, step.id),
            depends_on=tuple(ids.get(other, other) for other in step.depends_on),
        )

    notes, aggregate = (*plan.notes, *event.plan.notes), plan.aggregate or event.plan.aggregate
    steps = (*stays, *map(fitted, event.plan.steps))
    union = checked(replace(plan, steps=steps, aggregate=aggregate, notes=notes))
    steps = {step.id: state.steps.get(step.id) if step.id in taken else None for step in union.steps}
    return replace(
        state,
        plan=union,
        steps={id_: step or StepState() for id_, step in steps.items()},
        replanning=False,
        spent=(*state.spent, *event.spent),
    )


def _finished(state: RunState, event: StepFinished, now: datetime) -> Moved:
    """A step's end written down; nothing if that step isn't under way (it ended before, or there is none)."""
    before = state.steps.get(event.step_id)
    if before is None or before.status != "running" or state.plan is None:
        return state, []
    status, error = event.status, event.error
    if status in OPEN:
        status, error = "failed", error or ErrorInfo("step.status", f"It was said to have ended as {event.status}.")
    after = replace(
        _worked(before, event.spent, now),
        status=status,
        output=event.output,
        source=event.source,
        agent=event.agent,
        expert=event.expert or before.expert,
        tools=tuple(dict.fromkeys((*before.tools, *event.tools)))[:50],
        sources=event.sources,
        error=error and ErrorInfo(error.code[:100], error.message[:1_000], error.hint[:500]),
    )
    begun = min(event.spent.at if event.spent else now, state.begun_at or now)
    if status == "failed" and _agent(state.plan, event.step_id):
        return _taken_back(replace(state, begun_at=begun), state.plan, event.step_id, after), []
    state = replace(
        _with(state, event.step_id, after),
        begun_at=begun,
        notes=(*state.notes, event.note[:NOTE]) if event.note else state.notes,
        settled=event.step_id if event.settles and status in UNLOCKS else state.settled,
        limit=error if error and limited(error) else state.limit,
    )
    events: list[Event] = [ended(event.step_id, after)]
    if status == "failed" and not state.limit:
        why = f"Step {event.step_id!r} failed: {error.message if error else 'it did not say why.'}"
        state, asked = _replan(state, why)
        events += asked
    return state, events


def _agent(plan: Plan, step_id: str) -> str:
    return next((step.agent for step in plan.steps if step.id == step_id), "")


def _taken_back(state: RunState, plan: Plan, step_id: str, after: StepState) -> RunState:
    """A step that another agent did not do is done here."""
    steps = tuple(replace(step, agent="") if step.id == step_id else step for step in plan.steps)
    why = after.error.message if after.error else "it did not say why"
    note = f"Step {step_id!r} was not done by {_agent(plan, step_id)}, so it was done here: {why}"
    state = replace(state, plan=replace(plan, steps=steps), notes=(*state.notes, note))
    return _with(state, step_id, replace(after, status="pending", agent="", error=None, output="", source="rules"))


def _handed_off(state: RunState, event: StepHandedOff, now: datetime) -> Moved:
    before = state.steps.get(event.step_id)
    if before is None or before.status != "running" or state.plan is None:
        return state, []
    went = (*before.experts, before.expert)
    after = replace(_worked(before, event.spent, now), experts=went, expert=event.expert)
    if event.expert in went or len(went) >= HANDOFFS:
        way = " → ".join((*went, event.expert))
        error = ErrorInfo(
            "handoff.circle",
            f"Nobody took it on: it went {way}, for {event.capability!r}.",
            "An expert that declares this capability must be able to do it: `victoria experts` shows who does.",
        )
        after = replace(after, status="failed", error=error)
        state, asked = _replan(_with(state, event.step_id, after), error.message)
        return state, [ended(event.step_id, after), *asked]
    after = replace(after, status="pending", progress=event.progress)
    steps = tuple(replace(s, expert=event.expert) if s.id == event.step_id else s for s in state.plan.steps)
    text = f"{before.expert or 'nobody'} → {event.expert}: {event.capability}"
    state = _with(replace(state, plan=replace(state.plan, steps=steps)), event.step_id, after)
    return state, [RunProgressed(kind="handoff", stage=STAGE, step_id=event.step_id, text=text)]


def _asked(state: RunState, event: QuestionAsked, now: datetime) -> Moved:
    before = state.steps.get(event.step_id)
    if before is None or before.status != "running":
        return state, []
    asking = Asking(event.question_id, event.question, event.choices, event.approval, now, event.expires)
    after = replace(
        _worked(before, event.spent, now), status="waiting", progress=event.progress, asking=asking, reply=""
    )
    said = RunProgressed(
        kind="question",
        stage=STAGE,
        step_id=event.step_id,
        status="waiting",
        text=event.question,
        question_id=event.question_id,
        choices=event.choices,
    )
    timer = [DeadlineSet(at=event.expires, question_id=event.question_id)] if event.expires else []
    state = replace(state, asked=(*state.asked, event.question_id))
    return _with(state, event.step_id, after), [said, *timer]


def _answered(state: RunState, event: QuestionAnswered, _now: datetime) -> Moved:
    for step_id, asking in waiting(state):
        if asking.id == event.question_id:
            state = _goes_on(state, step_id, event.answer)
            why = f"The user was asked {asking.question!r} and answered {event.answer[:OUTPUT_CHARACTERS]!r}."
            return (state, []) if asking.approval else _replan(state, why, only_left=True)
    return state, []


def _deadline(state: RunState, event: DeadlinePassed, now: datetime) -> Moved:
    if event.question_id:
        found = next((step_id for step_id, asking in waiting(state) if asking.id == event.question_id), None)
        return (_goes_on(state, found, ""), []) if found else (state, [])
    error = ErrorInfo("budget.deadline", "The run's time was over.", "Give it a later deadline.")
    return ended_early(replace(state, limit=error), "failed", error, now)


def _goes_on(state: RunState, step_id: str, reply: str) -> RunState:
    return _with(state, step_id, replace(state.steps[step_id], status="pending", asking=None, reply=reply))


def _stage_failed(state: RunState, event: StageFailed, now: datetime) -> Moved:
    if state.replanning and event.stage == "plan":
        note = f"It was not planned again: {event.error.message}"
        return _again(replace(state, replanning=False, notes=(*state.notes, note)))
    return ended_early(state, "failed", event.error, now)


def _cancelled(state: RunState, event: CancelRequested, now: datetime) -> Moved:
    error = ErrorInfo("run.cancelled", event.reason or "The run was cancelled.")
    return ended_early(state, "cancelled", error, now)


def _replan(state: RunState, why: str, *, only_left: bool = False) -> Moved:
    """Ask for what is left to be planned again, if the plan allows it; `only_left`, if there is anything left."""
    plan = state.plan
    if plan is None or not plan.revisable or state.revision >= REVISIONS:
        return state, []
    left = tuple(step for step in plan.steps if _unbegun(state.steps[step.id]))
    if only_left and not left:
        return state, []
    if state.replanning:  # the plan that is being made does not know of this
        return replace(state, again=f"{state.again} {why}".strip()), []
    done = [(step, state.steps[step.id]) for step in plan.steps if state.steps[step.id].status not in OPEN]
    asked = ReplanRequested(
        restated=state.goal,
        revision=state.revision + 1,
        why=why,
        done=tuple(
            Done(step, s.status, s.output[:OUTPUT_CHARACTERS], s.error.message if s.error else "") for step, s in done
        ),
        left=left,
        strategy=plan.strategy,
        project=state.project,
        session=state.session,
        context=state.context,
        expert=state.expert,
    )
    return replace(state, revision=state.revision + 1, replanning=True), [asked]


def _again(state: RunState) -> Moved:
    """Have it planned again for what happened while it was being planned."""
    return _replan(replace(state, again=""), state.again) if state.again else (state, [])


def _cut_short(state: RunState) -> Moved:
    """Skip what is needless now: enough votes agree, a step has the whole answer, or a limit is reached."""
    plan = state.plan
    if plan is None:
        return state, []
    if state.limit:
        skipped = [id_ for id_, step in state.steps.items() if step.status in ("pending", "waiting")]
    elif state.settled:
        skipped = [id_ for id_, step in state.steps.items() if step.status in OPEN]
    elif plan.quorum and any(group.votes >= plan.quorum for group in counted(state)):
        skipped = [step.id for step in plan.steps if step.how == "vote" and state.steps[step.id].status in OPEN]
    else:
        return state, []
    steps = {id_: replace(s, status="skipped") if id_ in skipped else s for id_, s in state.steps.items()}
    events: list[Event] = [ended(id_, steps[id_]) for id_ in skipped]
    return replace(state, steps=steps, replanning=False, again=""), events


def _unbegun(step: StepState) -> bool:
    return step.status == "pending" and step.progress is None


def _with(state: RunState, step_id: str, step: StepState) -> RunState:
    return replace(state, steps={**state.steps, step_id: step})


def _worked(step: StepState, spent: Spent | None, now: datetime) -> StepState:
    """A step with what a piece of work at it has cost."""
    if spent is None:
        return step
    seconds = step.seconds + (now - spent.at).total_seconds()
    return replace(step, usage=step.usage + spent.usage, seconds=seconds)


def _collected(state: RunState, _event: AnswersCollected, _now: datetime) -> Moved:
    """Nothing changes, but for what is made of it: the run's end."""
    return replace(state), []


_MOVES: dict[type[Event], Callable[[RunState, Any, datetime], Moved]] = {
    AnswerFound: _found,
    AnswersCollected: _collected,
    PlanProposed: _proposed,
    StepFinished: _finished,
    StepHandedOff: _handed_off,
    QuestionAsked: _asked,
    QuestionAnswered: _answered,
    DeadlinePassed: _deadline,
    StageFailed: _stage_failed,
    CancelRequested: _cancelled,
}
