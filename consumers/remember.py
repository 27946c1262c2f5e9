"""remember: what is worth knowing later is kept in the collective memory, once, however often it comes."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Protocol

from consumers.memory import NOWHERE
from schemas.errors import NotReachable
from schemas.events import Event, MemoryKept
from streams.stage import Context, Snooze, Stage

NAME = "remember"
AGAIN = 5.0
"""Seconds after which it is tried again where the database is away: without end, since nobody waits for it."""


class Keeper(Protocol):
    """Who keeps memories."""

    async def keep(self, memory_id: str, kept: MemoryKept, at: datetime) -> bool:
        """Keep one; False where there is one of that id. Raises NotReachable."""
        ...


async def handle(event: MemoryKept, ctx: Context[None], keeper: Keeper | None) -> Sequence[Event]:
    """One memory in; nothing out. Where there never was a database there is nowhere to keep it."""
    if keeper is None or not event.text.strip():
        return []

    async def keep(kept: MemoryKept, _key: str) -> bool:
        return await keeper.keep(ctx.event_id, kept, ctx.now())

    try:
        await ctx.call("keep", keep, event, bool, effects="repeat")
    except NotReachable as away:
        if away.code != NOWHERE:
            raise Snooze(AGAIN) from away
    return []


def stage(keeper: Keeper | None) -> Stage[MemoryKept, None]:
    """The stage as it stands in the topology."""
    return Stage(name=NAME, reads=NAME, accepts=(MemoryKept,), emits=(), handle=partial(handle, keeper=keeper))
