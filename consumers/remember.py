"""remember: what is worth knowing later is kept, once, however often it comes: in the collective memory, and answers in
their cache."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Protocol

from consumers.answer_cache import AnswerCache
from schemas.errors import NotReachable
from schemas.events import AnswerKept, Event, MemoryKept
from schemas.plan import least_trusted
from streams.stage import Context, Snooze, Stage

NAME = "remember"
AGAIN = 5.0
"""Seconds after which it is tried again where the database is away: without end, since nobody waits for it."""


class Keeper(Protocol):
    """Who keeps memories."""

    async def keep(self, memory_id: str, kept: MemoryKept, at: datetime) -> bool:
        """Keep one; False where there is one of that id. Raises NotReachable."""
        ...


async def handle(
    event: MemoryKept | AnswerKept, ctx: Context[None], keeper: Keeper | None, answers: AnswerCache | None = None
) -> Sequence[Event]:
    """One memory or answer in; nothing out. Where no database is configured there is nowhere to keep memories."""
    if isinstance(event, AnswerKept):
        return await _answer(event, ctx, answers)
    if keeper is None or not event.text.strip():
        return []

    async def keep(kept: MemoryKept, _key: str) -> bool:
        return await keeper.keep(ctx.event_id, kept, ctx.now())

    try:
        await ctx.call("keep", keep, event, bool, effects="repeat")
    except NotReachable as away:
        raise Snooze(AGAIN) from away
    return []


async def _answer(event: AnswerKept, ctx: Context[None], answers: AnswerCache | None) -> Sequence[Event]:
    trust = least_trusted(ctx.trust, "model")

    async def keep(kept: AnswerKept, _key: str) -> bool:
        return bool(answers) and await answers.keep(kept, ctx.run_id, ctx.now(), trust)

    await ctx.call("keep_answer", keep, event, bool, effects="repeat")
    return []


def stage(keeper: Keeper | None, answers: AnswerCache | None = None) -> Stage[MemoryKept | AnswerKept, None]:
    """The stage as it stands in the topology."""
    handled = partial(handle, keeper=keeper, answers=answers)
    return Stage(name=NAME, reads=NAME, accepts=(MemoryKept, AnswerKept), emits=(), handle=handled)
