"""memory-compress: what was said in a session is kept, and the session's next turn may come."""

from collections.abc import Sequence
from functools import partial

from consumers.sessions import Sessions
from schemas.events import Event, ExchangeCompleted
from streams.stage import Context, Stage

NAME = "memory-compress"


async def handle(event: ExchangeCompleted, ctx: Context[None], sessions: Sessions) -> Sequence[Event]:
    """One exchange in; nothing out."""

    async def keep(ended: ExchangeCompleted, _key: str) -> bool:
        return await sessions.keep(ctx.run_id, ended)

    await ctx.call("keep", keep, event, bool, effects="repeat")
    return []


def stage(sessions: Sessions) -> Stage[ExchangeCompleted, None]:
    """The stage as it stands in the topology."""
    return Stage(
        name=NAME, reads=NAME, accepts=(ExchangeCompleted,), emits=(), handle=partial(handle, sessions=sessions)
    )
