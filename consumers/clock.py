"""clock: tells a run that a deadline has come. Until then its event waits on the server, and holds no worker."""

from collections.abc import Awaitable, Callable
from typing import Any

from schemas.events import DeadlinePassed, DeadlineSet, Event
from schemas.plan import Moment
from streams.connection import Client, server_ms
from streams.keys import Keys
from streams.stage import Context, Snooze, Stage

NAME = "clock"
STAYS = -1
"""The time to live that the server tells of a key without one."""

Left = Callable[[str, Moment], Awaitable[float | None]]
"""Seconds until a moment, by the server's clock; None if the run of that id has ended."""


def stage(left: Left) -> Stage[DeadlineSet, None]:
    """The stage as it stands in the topology."""

    async def handle(event: DeadlineSet, ctx: Context[None]) -> list[Event]:
        """Snooze until the moment; then say so, unless the run has ended."""

        async def look(at: Moment, _key: str) -> bool:
            seconds = await left(ctx.run_id, at)
            if seconds is not None and seconds > 0:
                raise Snooze(seconds)
            return seconds is not None

        goes_on = await ctx.call("look", look, event.at, returns=bool)
        return [DeadlinePassed(question_id=event.question_id)] if goes_on else []

    return Stage(name=NAME, reads=NAME, accepts=(DeadlineSet,), emits=(DeadlinePassed,), handle=handle)


async def seconds_left(client: Client, keys: Keys, run_id: str, at: Moment) -> float | None:
    """Seconds until a moment by the server's clock; None if that run has ended."""
    raw: Any = client
    if await raw.pttl(keys.run(keys.of_run(run_id), run_id)) != STAYS:
        return None
    return at.timestamp() - await server_ms(client) / 1000
