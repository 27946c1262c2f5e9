"""Steps that are one question to a model: an answer, thoughts, a vote, or a choice of the best of its inputs."""

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from consumers.agents.choice import AGENT
from consumers.experts.persona import Persona
from llm.prompts import Prompt, excerpt, prompt
from schemas.errors import EffectFailed, ErrorInfo
from schemas.events import StepFinished, StepReady
from schemas.inference import Question
from streams.stage import Context

T = TypeVar("T")

ANSWER, THINK, VOTE, CHOOSE = prompt("answer"), prompt("think"), prompt("vote"), prompt("choose")
INPUT_CHARACTERS = 6_000
"""Of all inputs of a step together, what a model sees, in equal shares; and of one at most half of it."""
CONTEXT_CHARACTERS = 2_000
SURE = 95
"""From this score on, the best candidate is the answer, and nothing else is tried."""
BY_RULES = (
    "No model answered, and no rule answers this by itself. By rules alone Victoria lists folders, reads files, and "
    'keeps notes and a calendar: try "Read README.md", "Make a note: the code is 4711" or "What do I have tomorrow?".'
)


class Ballot(msgspec.Struct, frozen=True):
    """Why, and the answer by itself."""

    reason: Annotated[str, Meta(max_length=400)]
    answer: Annotated[str, Meta(min_length=1, max_length=200)]


class Choice(msgspec.Struct, frozen=True):
    """The best of the candidates, which are numbered from 1, and how good it is."""

    reason: Annotated[str, Meta(max_length=400)]
    best: Annotated[int, Meta(ge=1, le=20)]
    score: Annotated[int, Meta(ge=0, le=100)]


async def answered(event: StepReady, persona: Persona, ctx: Context[None]) -> StepFinished:
    """An answer in plain text, at most 300 tokens. Raises EffectFailed."""
    question = _question(ANSWER, str, 300, event, persona)
    return _said(event, await ctx.ask("answer", question))


async def thought(event: StepReady, persona: Persona, ctx: Context[None]) -> StepFinished:
    """Thoughts in plain text, at most 500 tokens. Raises EffectFailed."""
    question = _question(THINK, str, 500, event, persona)
    return _said(event, await ctx.ask("think", question))


async def voted(event: StepReady, persona: Persona, ctx: Context[None]) -> StepFinished:
    """An answer that can be counted: short, and nothing else. Raises EffectFailed."""
    question = _question(VOTE, Ballot, 250, event, persona)
    return _said(event, (await ctx.ask("vote", question)).answer)


async def chosen(event: StepReady, persona: Persona, ctx: Context[None]) -> StepFinished:
    """The best of the step's inputs, word for word. Raises EffectFailed.

    A number that none of them has counts as the first: the plan's order is that of the likeliest.
    """
    texts = [event.inputs[other] for other in event.step.depends_on if other in event.inputs]
    if not texts:
        error = ErrorInfo("step.nothing", "There is nothing to choose from.", "See what became of the steps before it.")
        return StepFinished(step_id=event.step.id, status="failed", error=error)
    share = INPUT_CHARACTERS // max(2, len(texts))
    question = CHOOSE.question(
        Choice,
        max_tokens=250,
        step=event.step.id,
        expert=persona.instructions,
        context=excerpt(event.context, CONTEXT_CHARACTERS),
        goal=excerpt(event.step.instruction),
        candidates="\n\n".join(f"{number}. {excerpt(text, share)}" for number, text in enumerate(texts, 1)),
    )
    choice = await ctx.ask("choose", question)
    best = texts[choice.best - 1] if choice.best <= len(texts) else texts[0]
    settles = choice.score >= SURE and choice.best <= len(texts)
    return StepFinished(step_id=event.step.id, status="ok", output=best, source="model", settles=settles, sources=())


def by_rules(event: StepReady, problem: EffectFailed) -> StepFinished:
    """What can be said without a model: honest, and no failure of the run. Of several candidates, it is the first."""
    first = next(iter(event.inputs.values()), BY_RULES) if event.step.how == "choose" else BY_RULES
    return StepFinished(step_id=event.step.id, status="partial", output=first, error=problem.info)


def inputs(event: StepReady) -> list[str]:
    """What earlier steps gave, cut so that all of it together is bounded."""
    share = INPUT_CHARACTERS // max(2, len(event.inputs))
    return [excerpt(text, share) for text in event.inputs.values()]


def _question(kind: Prompt, answer: type[T], tokens: int, event: StepReady, persona: Persona) -> Question[T]:
    return kind.question(
        answer,
        max_tokens=tokens,
        step=event.step.id,
        # An agent who only answers needs no more than the rules of answering: more leads a small model astray.
        expert="" if persona.rank == AGENT else persona.instructions,
        context=excerpt(event.context, CONTEXT_CHARACTERS),
        goal=excerpt(event.step.instruction),
        inputs="\n\n".join(inputs(event)),
    )


def _said(event: StepReady, output: str) -> StepFinished:
    return StepFinished(step_id=event.step.id, status="ok", output=output, source="model", sources=())
