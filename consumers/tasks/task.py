"""A task as a row of its table, and what may be asked for in one."""

from datetime import datetime
from typing import Any, Literal, get_args

import msgspec

from schemas.errors import ErrorInfo
from schemas.events import RunFinished

Priority = Literal["critical", "high", "normal", "low"]
Status = Literal["pending", "assigned", "running", "completed", "failed", "cancelled"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
STATUSES: tuple[Status, ...] = get_args(Status)
OVER = frozenset[Status]({"completed", "failed", "cancelled"})
ATTEMPTS = 3
"""How often a task is tried where nothing else is said."""


class NewTask(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants done. `context` is what to know about it, as data. `expert` and `capability` are wanted ones,
    "" for whatever fits best. `id` is one of one's own, by which adding it again changes nothing."""

    goal: str
    project: str = ""
    context: str = ""
    expert: str = ""
    capability: str = ""
    priority: Priority = "normal"
    attempts: int = ATTEMPTS
    created_by: str = ""
    id: str = ""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task as it stands, in whatever status: a program of its own may have put it there.

    `assignee` is who it was given to, `run` the id of its last attempt's run, `worker` who published that.
    """

    id: str
    project: str
    goal: str
    context: str
    expert: str
    capability: str
    priority: str
    status: str
    assignee: str
    attempt: int
    attempts: int
    run: str
    worker: str
    cancel_asked: bool
    output: str
    error: Any
    knowledge: Any
    created_by: str
    created_at: datetime
    not_before: datetime
    claimed_at: datetime | None
    published_at: datetime | None
    finished_at: datetime | None

    @property
    def over(self) -> bool:
        """Whether it has ended, for good or until somebody retries it."""
        return self.status in OVER


class Knowledge(msgspec.Struct, frozen=True):
    """How a task's output came about: as `knowledge` of POST /run says it, and by which experts."""

    method: str
    model: str
    source: str
    delegated_to: str | None
    experts: tuple[str, ...]
    tokens_in: int
    tokens_out: int
    calls: int
    seconds: float
    notes: tuple[str, ...]


class Ended(msgspec.Struct, frozen=True):
    """How a task's run ended, and whether it may be tried `again` if it failed."""

    run: str
    status: str
    at: datetime
    output: str = ""
    error: ErrorInfo | None = None
    knowledge: Knowledge | None = None
    again: bool = True

    @classmethod
    def of(cls, run: str, end: RunFinished, at: datetime) -> "Ended":
        """That of a run's last event."""
        meta = end.metadata
        knowledge = Knowledge(
            method=end.method,
            model=meta.model,
            source=meta.source,
            delegated_to=meta.delegated_to,
            experts=tuple(dict.fromkeys(step.expert for step in meta.steps if step.expert)),
            tokens_in=meta.tokens_in,
            tokens_out=meta.tokens_out,
            calls=meta.calls,
            seconds=meta.seconds,
            notes=meta.notes,
        )
        return cls(run, end.status, at, end.output, end.error, knowledge)
