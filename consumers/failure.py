"""What a run hears when a stage gives up on one of its events."""

from collections.abc import Callable, Sequence
from typing import Any

from schemas.errors import ErrorInfo
from schemas.events import Event, StageFailed


def stage_failed(stage: str) -> Callable[[Any, ErrorInfo], Sequence[Event]]:
    """An `on_dead` that tells the run's aggregate which stage failed, and why."""

    def on_dead(_event: Any, error: ErrorInfo) -> Sequence[Event]:
        return [StageFailed(stage=stage, error=error)]

    return on_dead
