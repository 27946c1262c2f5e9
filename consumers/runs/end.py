"""How a run ends: its one answer, and how it came about. Pure functions over its state."""

from datetime import datetime

from msgspec.structs import replace

from consumers.runs.check import bounded
from consumers.runs.state import OPEN, STAGE, UNLOCKS, RunEnd, RunState, StepState, answers
from consumers.runs.votes import Group, tally
from llm.prompts import excerpt
from schemas.errors import ErrorInfo
from schemas.events import AnswerFound, Event, Metadata, RunFinished, StageTime, StepSummary
from schemas.plan import Source, Step, Usage

OUTPUT_CHARACTERS = 400_000
"""Of an answer: whatever they are, an event has room for them."""


def limited(error: ErrorInfo) -> bool:
    """Whether an error says that a limit of the run is reached: tokens, calls, or its deadline."""
    return error.code.startswith("budget.")


def output(state: RunState) -> str:
    """The run's answer as far as no model is needed for it: that of the step that settled it, what most votes say, or
    all answers, one after the other."""
    if state.settled:
        return state.steps[state.settled].output
    groups = counted(state)
    return groups[0].answer if groups else concatenated(state)


def concatenated(state: RunState, each: int | None = None) -> str:
    """All answers, of each at most `each` characters, in plan order, under their steps' titles if there are several.
    What several say alike is said once."""
    found = dict[str, Step]()
    for step, text in answers(state):
        found.setdefault(text, step)
    if len(found) == 1:
        return next(iter(found))[:each]
    return "\n\n".join(f"## {step.title}\n\n{text[:each]}" for text, step in found.items())


def finish(state: RunState, said: str, fused: Usage, now: datetime) -> RunState:
    """The run's one end, from its steps."""
    done = any(step.status in UNLOCKS for step in state.steps.values())
    error = state.limit or _unanswered(state)
    if not done:
        error = error or next((step.error for step in state.steps.values() if step.error), None) or _empty(state)
    return _ended(state, "completed" if done else "failed", said, error, fused, now)


def ended_early(state: RunState, status: RunEnd, error: ErrorInfo, now: datetime) -> tuple[RunState, list[Event]]:
    """The run's one end before its steps' ends. What is there already is its output, what isn't is skipped. One that is
    stopped at a limit with something to show is completed."""
    steps = {id_: replace(s, status="skipped") if s.status in OPEN else s for id_, s in state.steps.items()}
    state = replace(state, steps=steps)
    if limited(error) and answers(state):
        status = "completed"
    return _ended(state, status, output(state), error, Usage(), now), []


def recalled(state: RunState, event: AnswerFound, now: datetime) -> RunState:
    """The end of a run whose answer was known: nothing was asked or done for it."""
    state = replace(
        state,
        goal=event.restated,
        project=event.project,
        session=event.session,
        expert=event.expert,
        spent=event.spent,
        planned_at=now,
    )
    known = event.known
    note = f"Run {known.run} had found this out at {known.at:%Y-%m-%d %H:%M:%S} UTC; what it rests on has not changed."
    finished = RunFinished(
        status="completed",
        output=excerpt(event.output, OUTPUT_CHARACTERS),
        method=event.method,
        metadata=Metadata(
            model=event.model,
            source="model",
            delegated_to=None,
            tokens_in=0,
            tokens_out=0,
            seconds=_seconds(event.spent[0].at if event.spent else now, now),
            steps=(),
            notes=(note,),
        ),
        stages=_stage_times(state, Usage(), now),
        known=known,
    )
    return replace(state, finished=finished)


def _unanswered(state: RunState) -> ErrorInfo | None:
    """Why nothing but what was to feed other steps is there, if so."""
    mine = [(step, state.steps[step.id]) for step in (state.plan.steps if state.plan else ()) if not step.inner]
    if state.settled or any(now.status in UNLOCKS for _, now in mine):
        return None
    return next((now.error for _, now in mine if now.error), None)


def _empty(state: RunState) -> ErrorInfo:
    notes = state.plan.notes if state.plan else ()
    return ErrorInfo("plan.empty", "; ".join(notes) or "The plan has no steps.", "Say the goal in other words.")


def _ended(
    state: RunState, status: RunEnd, said: str, error: ErrorInfo | None, fused: Usage, now: datetime
) -> RunState:
    plan_steps = state.plan.steps if state.plan else ()
    steps = list(state.steps.values())
    usage = sum((s.usage for s in (*state.spent, *steps)), fused)
    done = [step for step in steps if step.status in UNLOCKS]
    source = _source(done or steps)
    started = state.spent[0].at if state.spent else now
    finished = RunFinished(
        status=status,
        output=excerpt(said, OUTPUT_CHARACTERS) or (f"{error.message} {error.hint}".strip() if error else ""),
        method=state.plan.strategy if state.plan and source in ("model", "agent") else "rules",
        metadata=Metadata(
            model=usage.model if usage.calls else "none",
            source=source,
            delegated_to=", ".join(dict.fromkeys(step.agent for step in done if step.agent)) or None,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
            seconds=round(_seconds(started, now) + fused.seconds, 3),
            steps=tuple(_summary(step, state.steps[step.id]) for step in plan_steps),
            notes=bounded((*(state.plan.notes if state.plan else ()), *state.notes, *_cost_of_votes(state))),
            node=usage.node,
            tokens_cached=usage.cached,
            calls=usage.calls,
        ),
        stages=_stage_times(state, fused, now),
        error=error,
    )
    return replace(state, finished=finished)


def _source(steps: list[StepState]) -> Source:
    """Who made the answer, the most elaborate of those who had a part in it."""
    order: tuple[Source, ...] = ("agent", "model", "tool")
    for source in order:
        if any(step.source == source for step in steps):
            return source
    return "rules"


def _summary(step: Step, s: StepState) -> StepSummary:
    return StepSummary(
        step.id, step.title, s.status, s.tools, s.error, s.expert or step.expert, s.agent, round(s.seconds, 3), s.usage
    )


def counted(state: RunState) -> tuple[Group, ...]:
    """What the steps that vote have said so far, most votes first; nothing where there is no vote. What a voter whom
    no model answered has to say, partial as it is, is no vote."""
    if not (state.plan and state.plan.quorum):
        return ()
    voters = [state.steps[step.id] for step in state.plan.steps if step.how == "vote"]
    return tally([step.output if step.status == "ok" else "" for step in voters], state.goal)


def _cost_of_votes(state: RunState) -> list[str]:
    groups = counted(state)
    if not (groups and state.plan):
        return []
    voters = [state.steps[step.id] for step in state.plan.steps if step.how == "vote"]
    heard, cost = sum(group.votes for group in groups), sum((step.usage for step in voters), Usage())
    agree = f"{groups[0].votes} of {heard} votes agree; {len(voters) - heard} of {len(voters)} voters were not heard."
    return [f"{agree} The vote took {cost.tokens_in + cost.tokens_out:,} tokens."]


def _stage_times(state: RunState, fused: Usage, now: datetime) -> tuple[StageTime, ...]:
    """Each stage from its event's arrival to the next one's; steps side by side are added up."""
    arrivals = [*(spent.at for spent in state.spent), state.planned_at or now]
    times = [
        StageTime(spent.stage, max(0.0, _seconds(spent.at, following)), usage=spent.usage)
        for spent, following in zip(state.spent, arrivals[1:], strict=False)
    ]
    ran = [step for step in state.steps.values() if step.status not in ("pending", "blocked", "skipped")]
    for stage, some in (
        ("step-execute", [step for step in ran if not step.agent]),
        ("delegate", [step for step in ran if step.agent]),
    ):
        if some:
            usage = sum((step.usage for step in some), Usage())
            times.append(StageTime(stage, round(sum(s.seconds for s in some), 3), len(some), usage))
    if state.planned_at:
        seconds = round(_seconds(state.planned_at, state.begun_at or now) + fused.seconds, 3)
        times.append(StageTime(STAGE, seconds, len(ran) + 1, usage=fused))
    return tuple(times)


def _seconds(start: datetime, end: datetime) -> float:
    return round((end - start).total_seconds(), 3)
