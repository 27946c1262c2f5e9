"""aggregate: the one place that knows a run. It releases steps as their dependencies allow and ends the run, once."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import get_args

from msgspec.structs import replace

from consumers.answer_cache import AnswerCache
from consumers.runs.end import concatenated, finish, limited, output
from consumers.runs.moves import AggregateEvent, move
from consumers.runs.reuse import Reusable, reusable
from consumers.runs.state import STAGE, Asking, RunState, answers, exchange, is_over, waiting
from llm.prompts import excerpt, prompt
from schemas.errors import EffectFailed, ErrorInfo
from schemas.events import (
    AnswersCollected,
    DeadlineSet,
    DelegationRequested,
    Event,
    ExchangeCompleted,
    QuestionAsked,
    ReplanRequested,
    RunFinished,
    RunProgressed,
    StageFailed,
    StepReady,
    ValidationFinished,
)
from schemas.plan import least_trusted
from streams.stage import Context, Policy, Stage

NAME = STAGE
FUSE = prompt("fuse")
FUSED_CHARACTERS = 6_000
VALIDATION_CHARACTERS = 4_000
"""Of an answer, what a hypothesis is judged by."""
CONCURRENCY = 256
"""Events at once: while a model fuses the answers of one run, other runs go on."""

Listed = Callable[[Asking, str], Awaitable[None]]
"""Puts a question on the list of those that wait; again and again changes nothing."""


async def handle(
    event: AggregateEvent, ctx: Context[RunState], listed: Listed, answers: AnswerCache | None = None
) -> list[Event]:
    """One event of a run in; released steps, progress, or the run's end out."""
    before, now = ctx.state, ctx.now()
    state, events = move(before, event, now)
    if state is before:
        return []  # it ended before, or this event is of something that did
    trust = least_trusted(ctx.trust, before.trust)
    if isinstance(event, QuestionAsked):
        for _, asking in waiting(state):
            if asking.id == event.question_id:
                await ctx.call("listed", listed, asking, returns=type(None), effects="repeat")
    ctx.trust = trust
    if state.plan and not state.finished and is_over(state):
        if (count := _to_fuse(state)) and not isinstance(event, AnswersCollected):
            events.append(
                AnswersCollected(count=count)
            )  # first what the steps gave is kept: fusing it may be cut short
        else:
            said, problem = await _output(state, ctx)
            limit = problem if problem and limited(problem) else None
            state = finish(replace(state, limit=state.limit or limit), said, ctx.usage(), now)
            if answers and not problem:
                await _kept(state, ctx, answers)
    if state.finished:
        events.append(state.finished)
        if ended := exchange(state):
            events.append(ended)
        if ctx.limits and ctx.limits.validates:
            events.append(_validated(state.finished, ctx.run_id, ctx.limits.validates))
    ctx.state = replace(state, trust=ctx.trust)
    return events


async def _kept(state: RunState, ctx: Context[RunState], answers: AnswerCache) -> None:
    """Keep a run's answer before its end is known, if it may be given again: who asks the same next is given it."""
    trust = ctx.trust

    async def keep(answer: Reusable, _key: str) -> bool:
        return await answers.keep(answer, ctx.run_id, ctx.now(), least_trusted(trust, "model"))

    if answer := reusable(state):
        await ctx.call("keep_answer", keep, answer, bool, effects="repeat")
        ctx.trust = trust


def _validated(end: RunFinished, run_id: str, hypothesis: str) -> ValidationFinished:
    return ValidationFinished(
        hypothesis=hypothesis,
        validation=run_id,
        status=end.status,
        output=excerpt(end.output, VALIDATION_CHARACTERS),
        source=end.metadata.source,
        error=end.error,
    )


def _to_fuse(state: RunState) -> int:
    """How many answers a model is to make one of; 0 where it is not."""
    several = len({said for _, said in answers(state)})
    wanted = state.plan and state.plan.aggregate and not (state.settled or state.limit)
    return several if wanted and several > 1 else 0


async def _output(state: RunState, ctx: Context[RunState]) -> tuple[str, ErrorInfo | None]:
    """Several answers fused by a model where the plan asks for it; else, or where that fails, one after the other. And
    why it failed."""
    several = _to_fuse(state)
    if not several:
        return output(state), None
    # Each answer is cut by itself: a long one must not push the others out.
    cut = concatenated(state, FUSED_CHARACTERS // several)
    question = FUSE.question(str, max_tokens=400, goal=excerpt(state.goal), answers=cut)
    try:
        return await ctx.ask("fuse", question), None
    except EffectFailed as problem:
        return output(state), problem.info


async def _given_up(event: AggregateEvent | None, error: ErrorInfo, _ctx: Context[RunState]) -> list[Event]:
    """A run whose own event was given up ends as failed; of that end itself nothing more can be said."""
    return [] if isinstance(event, StageFailed) else [StageFailed(stage=NAME, error=error)]


def stage(listed: Listed, answers: AnswerCache | None = None) -> Stage[AggregateEvent, RunState]:
    """The stage as it stands in the topology."""
    return Stage(
        name=NAME,
        reads=NAME,
        accepts=get_args(AggregateEvent),
        emits=(
            AnswersCollected,
            StepReady,
            DelegationRequested,
            ReplanRequested,
            DeadlineSet,
            RunProgressed,
            RunFinished,
            ExchangeCompleted,
            ValidationFinished,
            StageFailed,
        ),
        handle=partial(handle, listed=listed, answers=answers),
        policy=Policy(concurrency=CONCURRENCY),
        state=RunState,
        on_dead=_given_up,
    )
