"""plan: an understood goal becomes a checked plan of few steps.

Works on the restated goal only. What rules are sure of becomes steps without a model; a simple goal is one step; for
the rest a model decomposes, and where it can't, one step does the whole.
"""

from functools import partial
from typing import Annotated

import msgspec
from msgspec.structs import replace

from consumers.failure import stage_failed
from consumers.plan_check import MAX_STEPS, checked, renumbered
from consumers.tools.registry import BUILT_IN, Registry
from llm.prompts import excerpt, prompt
from schemas.errors import EffectFailed
from schemas.events import Event, GoalUnderstood, PlanProposed, RunProgressed, StageFailed
from schemas.plan import Plan, Spent, Step, ToolCall
from streams.stage import Context, Stage

NAME = "plan"
PROMPT = prompt("plan")

ShortText = Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
LongText = Annotated[str, msgspec.Meta(min_length=1, max_length=400)]
StepId = Annotated[str, msgspec.Meta(min_length=1, max_length=20)]


class PlannedStep(msgspec.Struct, frozen=True):
    """A step as a model proposes it."""

    id: StepId
    title: ShortText
    instruction: LongText
    depends_on: Annotated[tuple[StepId, ...], msgspec.Meta(max_length=MAX_STEPS)] = ()


class Decomposition(msgspec.Struct, frozen=True):
    """A model's proposal for a plan."""

    steps: Annotated[tuple[PlannedStep, ...], msgspec.Meta(min_length=1, max_length=5)]


async def handle(event: GoalUnderstood, ctx: Context[None], tools: Registry = BUILT_IN) -> list[Event]:
    """One understood goal in, its plan out, for steps that have these tools."""
    if event.calls:
        plan = of_calls(event.calls, event.question, alone=event.question_alone)
    elif event.category == "simple":
        plan = Plan("simple", (Step("1", "answer", event.restated, how="answer"),))
    else:
        plan = await _decomposed(event, ctx, tools)
    proposed = PlanProposed(
        restated=event.restated,
        plan=plan,
        project=event.project,
        session=event.session,
        context=event.context,
        expert=event.expert,
        spent=(*event.spent, Spent(NAME, ctx.now(), ctx.usage())),
    )
    titles = "; ".join(step.title for step in plan.steps)
    return [proposed, RunProgressed(kind="plan", stage=NAME, text=titles or "; ".join(plan.notes), plan=plan)]


def of_calls(calls: tuple[ToolCall, ...], question: str, *, alone: bool = False) -> Plan:
    """A plan of sure tool calls, side by side, and of the question that is left, if any: about their results, or alone.

    A question that stands alone gets no results: a small model would talk about them instead of answering.
    """
    steps = [
        Step(str(number), " ".join((call.tool, *call.arguments.values()))[:120], call.tool, how="tool", call=call)
        for number, call in enumerate(calls, 1)
    ]
    if not question:
        return Plan("rules", tuple(steps))
    needs = () if alone else tuple(step.id for step in steps)
    last = Step(str(len(steps) + 1), question[:120], question, how="answer", depends_on=needs)
    return Plan("simple", (*steps, last))


async def _decomposed(event: GoalUnderstood, ctx: Context[None], tools: Registry) -> Plan:
    whole = Step("1", "find out", event.restated, expected=event.first_step)
    question = PROMPT.question(Decomposition, max_tokens=400, goal=excerpt(event.restated), tools=tools.described)
    try:
        proposal = await ctx.ask("decompose", question)
    except EffectFailed as problem:
        return Plan("react", (whole,), notes=(f"One step for the whole: {problem}",))
    steps = tuple(Step(s.id, s.title, s.instruction, depends_on=s.depends_on) for s in proposal.steps)
    plan = checked(Plan("react", steps))
    return renumbered(replace(plan, aggregate=len(plan.steps) > 1))


def stage(tools: Registry = BUILT_IN) -> Stage[GoalUnderstood, None]:
    """The stage as it stands in the topology."""
    return Stage(
        name=NAME,
        reads="plan",
        accepts=(GoalUnderstood,),
        emits=(PlanProposed, RunProgressed, StageFailed),
        handle=partial(handle, tools=tools),
        on_dead=stage_failed(NAME),
    )
