"""What a run hears when a stage gives up on one of its events."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from schemas.errors import ErrorInfo
from schemas.events import Event, StageFailed
from streams.stage import Context

OnDead = Callable[[Any, ErrorInfo, Context[Any]], Awaitable[Sequence[Event]]]


def stage_failed(stage: str) -> OnDead:
    """An `on_dead` that tells the run's aggregate which stage failed, and why."""

    async def on_dead(_event: Any, error: ErrorInfo, _ctx: Context[Any]) -> Sequence[Event]:
        return [StageFailed(stage=stage, error=error)]

    return on_dead
