"""The decomposer: a model takes a goal apart into steps for experts, or plans anew what is left of it."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal, cast

import msgspec
from msgspec import Meta

from consumers.strategies.fitting import manner
from consumers.strategies.strategy import Ask, Brief, Colleague
from llm.prompts import excerpt, prompt
from schemas.inference import Question
from schemas.plan import How, Plan, Step

DECOMPOSE, REPLAN = prompt("decompose"), prompt("replan")
MOST_STEPS = 5
MOST_COLLEAGUES = 24
"""Experts whom a model is told of: more would leave no room for the goal."""
_TOKENS = 800
"""Room for a proposal whose every text is as long as it may be, nearly: a small model uses what it gets."""
_CONTEXT, _DONE, _LEFT, _WHY = 1_500, 4_000, 1_500, 1_000
"""Characters of each of these in a prompt."""
_WAS_DONE = "done-"
"""What ids of steps that have ended begin with in a prompt; a model may call a new step as one of them is called."""

ShortText = Annotated[str, Meta(min_length=1, max_length=80)]
LongText = Annotated[str, Meta(min_length=1, max_length=300)]
StepId = Annotated[str, Meta(min_length=1, max_length=12)]


class PlannedStep(msgspec.Struct, frozen=True):
    """A step as a model proposes it."""

    id: StepId
    title: ShortText
    instruction: LongText
    expert: str
    depends_on: Annotated[tuple[StepId, ...], Meta(max_length=8)] = ()
    expected: Annotated[str, Meta(max_length=100)] = ""


class Decomposition(msgspec.Struct, frozen=True):
    """A model's proposal for a plan: what is really wanted, and the steps there."""

    intent: Annotated[str, Meta(max_length=150)]
    steps: Annotated[tuple[PlannedStep, ...], Meta(min_length=1, max_length=MOST_STEPS)]
    aggregate: bool = True


@lru_cache(maxsize=64)
def decomposition(names: tuple[str, ...]) -> type[Decomposition]:
    """The answer's type where these are the experts there are, at least one: a step is for one of them."""
    step = msgspec.defstruct(
        "PlannedStep", [("expert", Literal[names])], bases=(PlannedStep,), frozen=True, module=__name__
    )
    steps = Annotated[tuple[step, ...], Meta(min_length=1, max_length=MOST_STEPS)]
    found = msgspec.defstruct("Decomposition", [("steps", steps)], bases=(Decomposition,), frozen=True, module=__name__)
    return cast("type[Decomposition]", found)


async def decomposed(strategy: str, brief: Brief, ask: Ask, colleagues: Sequence[Colleague]) -> Plan:
    """The plan a model proposes for these colleagues, at least one, not checked yet. Raises EffectFailed.

    Where the brief says why what is left is to be planned again, that alone is planned, upon what is done. Of more than
    MOST_COLLEAGUES the first are told.
    """
    proposal = await ask("replan" if brief.why else "decompose", question(brief, colleagues))
    new = {step.id: f"new {step.id}" if brief.why else step.id for step in proposal.steps}
    manners: dict[str, How] = {each.name: manner(each) for each in colleagues}
    steps = tuple(
        Step(
            new[step.id],
            step.title,
            step.instruction,
            how=manners[step.expert],
            expert=step.expert,
            depends_on=tuple(new.get(other, other.removeprefix(_WAS_DONE)) for other in step.depends_on),
            expected=step.expected,
        )
        for step in proposal.steps
    )
    return Plan(strategy, steps, aggregate=proposal.aggregate and len(steps) > 1, revisable=True)


def question(brief: Brief, colleagues: Sequence[Colleague]) -> Question[Decomposition]:
    """What a model is asked: what is the same for many goals comes first."""
    staff = sorted(colleagues[:MOST_COLLEAGUES], key=lambda each: each.name)
    answer = decomposition(tuple(each.name for each in staff))
    goal, context = excerpt(brief.goal), excerpt(brief.context, _CONTEXT)
    experts = "\n".join(f"{each.name}: {each.title}. Can {', '.join(each.capabilities)}." for each in staff)
    if not brief.why:
        return DECOMPOSE.question(
            answer, max_tokens=_TOKENS, tools=brief.tools, experts=experts, context=context, goal=goal
        )
    share = _DONE // max(1, len(brief.done))
    done = [
        f"{_WAS_DONE}{each.step.id} ({each.status}) {each.step.title}: {excerpt(each.output or each.error, share)}"
        for each in brief.done
    ]
    left = "\n".join(f"{step.title}: {step.instruction}" for step in brief.left)
    return REPLAN.question(
        answer,
        max_tokens=_TOKENS,
        tools=brief.tools,
        experts=experts,
        context=context,
        goal=goal,
        done="\n".join(done),
        left=excerpt(left, _LEFT),
        why=excerpt(brief.why, _WHY),
    )
