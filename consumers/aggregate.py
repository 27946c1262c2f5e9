"""aggregate: the one place that knows a run. It releases steps as their dependencies allow and ends the run, once."""

from msgspec.structs import replace

from consumers import run_state as run
from consumers.run_state import RunState
from llm.prompts import excerpt, prompt
from schemas.errors import EffectFailed, ErrorInfo
from schemas.events import (
    CancelRequested,
    Event,
    ExchangeCompleted,
    PlanProposed,
    RunFinished,
    RunProgressed,
    StageFailed,
    StepFinished,
    StepReady,
)
from schemas.plan import least_trusted
from streams.stage import Context, Policy, Stage

NAME = run.STAGE
FUSE = prompt("fuse")
FUSED_CHARACTERS = 6_000


async def handle(
    event: PlanProposed | StepFinished | StageFailed | CancelRequested, ctx: Context[RunState]
) -> list[Event]:
    """One event of a run in; released steps, progress, or the run's end out."""
    state, now = ctx.state, ctx.now()
    if state.finished:
        return []  # a run ends once: what comes late changes nothing
    events: list[Event] = []
    match event:
        case StageFailed():
            state = run.fail(state, event, now)
        case CancelRequested():
            state = run.cancel(state, event, now)
        case PlanProposed() if state.plan is None:
            state = run.begin(event, now)
        case StepFinished():
            state, events = run.record(state, event, now)
        case _:
            return []
    ctx.trust = least_trusted(ctx.trust, ctx.state.trust)
    if state.plan and not state.finished:
        state, released = run.release(state)
        events += released
        if run.is_over(state):
            output = await _output(state, ctx)
            state = run.finish(state, output, ctx.usage(), now)
    if state.finished:
        events.append(state.finished)
        if exchange := run.exchange(state):
            events.append(exchange)
    ctx.state = replace(state, trust=ctx.trust)
    return events


async def _output(state: RunState, ctx: Context[RunState]) -> str:
    """Several answers fused by a model where the plan asks for it; else, or where that fails, one after the other."""
    plain = run.concatenated(state)
    several = len(run.answers(state))
    if state.plan and state.plan.aggregate and several > 1:
        # Each answer is cut by itself: a long one must not push the others out.
        cut = run.concatenated(state, FUSED_CHARACTERS // several)
        try:
            return await ctx.ask("fuse", FUSE.question(str, max_tokens=400, goal=excerpt(state.goal), answers=cut))
        except EffectFailed:
            return plain
    return plain


async def _given_up(
    event: PlanProposed | StepFinished | StageFailed | CancelRequested, error: ErrorInfo, _ctx: Context[RunState]
) -> list[Event]:
    """A run whose own event was given up ends as failed; of that end itself nothing more can be said."""
    return [] if isinstance(event, StageFailed) else [StageFailed(stage=NAME, error=error)]


def stage() -> Stage[PlanProposed | StepFinished | StageFailed | CancelRequested, RunState]:
    """The stage as it stands in the topology."""
    return Stage(
        name=NAME,
        reads=NAME,
        accepts=(PlanProposed, StepFinished, StageFailed, CancelRequested),
        emits=(StepReady, RunProgressed, RunFinished, ExchangeCompleted, StageFailed),
        handle=handle,
        policy=Policy(concurrency=32),
        state=RunState,
        on_dead=_given_up,
    )
