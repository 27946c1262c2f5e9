"""understand: a raw goal becomes one clear sentence, a category, and what rules are sure of.

Rules look first. Where they are sure, no model is asked; where they are not, one quick call restates the goal, and its
answer counts only if it kept the goal's meaning. Without a model the rules' own reading goes on.
"""

from functools import partial
from typing import Annotated

import msgspec
from msgspec.structs import replace

from consumers.failure import stage_failed
from consumers.intake import HISTORY_PAIRS, goal_submitted
from consumers.sessions import Sessions, Turn
from llm.prompts import excerpt, prompt
from schemas.errors import EffectFailed
from schemas.events import Event, GoalSubmitted, GoalUnderstood, RunProgressed, StageFailed
from schemas.plan import Category, Spent
from streams.stage import Context, Stage

NAME = "understand"
SURE = 0.8
"""From this confidence on the rules decide alone."""
CLEAR = 0.6
"""From this confidence on the rules' category counts, not the model's."""
HISTORY_CHARACTERS = 1_000

PROMPT = prompt("understand")


class Understanding(msgspec.Struct, frozen=True):
    """What the model makes of a goal."""

    restated: Annotated[str, msgspec.Meta(min_length=1, max_length=400)]
    category: Category
    first_step: Annotated[str, msgspec.Meta(max_length=200)]


async def handle(event: GoalSubmitted, ctx: Context[None], sessions: Sessions | None = None) -> list[Event]:
    """One goal in, its understanding out; of a session's goal not before its turn has come."""
    from consumers.rules import faithful, recognise  # late: compiling them takes 0.1 s of a start

    goal_submitted(event.goal, event.project, event.session, event.history)  # also of events that passed no door
    turn = await _turn(event, ctx, sessions)
    if turn.over:
        return []  # it was cancelled while it waited
    rules = recognise(event.goal)
    restated, category, first_step, source = rules.restated, rules.category, rules.first_step, "rules"
    if rules.confidence < SURE:
        history = "\n".join(f"{said.user}\n{said.assistant}" for said in turn.history[-3:])
        question = PROMPT.question(
            Understanding, max_tokens=200, goal=excerpt(event.goal), history=excerpt(history, HISTORY_CHARACTERS)
        )
        try:
            answer = await ctx.ask("understand", question)
        except EffectFailed:
            pass  # the failure is in the journal; the rules' reading goes on
        else:
            if faithful(event.goal, answer.restated):
                restated, source = answer.restated.strip(), "model"
            if rules.confidence < CLEAR:
                category, first_step, source = answer.category, answer.first_step, "model"
    understood = GoalUnderstood(
        restated=restated,
        category=category,
        kind=rules.kind,
        first_step=first_step,
        project=event.project,
        session=event.session,
        calls=rules.calls,
        question=rules.rest,
        question_alone=rules.rest_alone,
        confidence=rules.confidence,
        source="model" if source == "model" else "rules",
        spent=(Spent(NAME, ctx.now(), ctx.usage()),),
    )
    return [understood, RunProgressed(kind="understood", stage=NAME, text=restated)]


async def _turn(event: GoalSubmitted, ctx: Context[None], sessions: Sessions | None) -> Turn:
    """What was said before: in the session, else what came with the goal."""
    turn = Turn()
    if sessions and event.session:

        async def enter(session: str, _key: str) -> Turn:
            return await sessions.enter(session, ctx.run_id)

        trust = ctx.trust
        turn = await ctx.call("session", enter, event.session, Turn)
        if not turn.history:
            ctx.trust = trust  # nothing came of it that could be less trusted than the goal
    return turn if turn.history else replace(turn, history=event.history[-HISTORY_PAIRS:])


def stage(sessions: Sessions | None = None) -> Stage[GoalSubmitted, None]:
    """The stage as it stands in the topology."""
    return Stage(
        name=NAME,
        reads="intake",
        accepts=(GoalSubmitted,),
        emits=(GoalUnderstood, RunProgressed, StageFailed),
        handle=partial(handle, sessions=sessions),
        on_dead=stage_failed(NAME),
    )
