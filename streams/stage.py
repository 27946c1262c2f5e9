"""The contract everything stands on: a stage is a function from one typed event to a list of typed events.

All else goes through `ctx`, which records it: handling an event again, after a crash or in a replay, gives the same.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, TypeVar

from schemas.errors import ErrorInfo
from schemas.events import Event
from schemas.inference import Question
from schemas.plan import Trust, Usage
from streams.limits import Limited

E = TypeVar("E", bound=Event)
S = TypeVar("S")
A = TypeVar("A")
R = TypeVar("R")
Action = Callable[[A, str], Awaitable[R]]

Effects = Literal["none", "repeat", "unknown"]
"""After a crash between an action and its record: `none`, it changes nothing, do it again; `repeat`, do it again with
the same idempotency key; `unknown`, never again, raise OutcomeUnknown. A retryable error says that nothing was done."""


class Context(Limited, Protocol[S]):
    """What a handler may use beside its event."""

    run_id: str
    event_id: str
    state: S
    """The run's state; assign the new one. Saved with the outputs, or the handler runs again on a fresher one."""
    trust: Trust
    """The least trusted source of what went into the outputs. Asking and calling lower it."""

    async def ask(self, name: str, question: Question[R]) -> R:
        """Ask a model; the validated answer. Raises EffectFailed when there is none: fall back to rules."""
        ...

    async def call(self, name: str, action: Action[A, R], request: A, returns: type[R], effects: Effects = "none") -> R:
        """Do one outside action, `action(request, idempotency_key)`. Its typed errors are raised as EffectFailed."""
        ...

    def now(self) -> datetime:
        """When the event arrived on its stream: the same however often it is handled."""
        ...

    def new_id(self, name: str) -> str:
        """An id derived from the event and this name."""
        ...

    def usage(self) -> Usage:
        """What this handler's model calls cost so far."""
        ...


class Snooze(Exception):
    """Raise to have the event again after `delay` seconds, without counting an attempt."""

    def __init__(self, delay: float) -> None:
        super().__init__(f"snoozed for {delay} s")
        self.delay = delay


class Reject(Exception):
    """Raise to make the event a dead letter at once."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How failure and load are met. Times are seconds; the n-th retry waits backoff * 2**(n-1), at most backoff_max.
    An entry on which `deliveries` workers died is given up too. `stops_with_run`: a handler stops when its run ends."""

    attempts: int = 4
    deliveries: int = 10
    backoff: float = 0.5
    backoff_max: float = 60.0
    timeout: float = 600.0
    concurrency: int = 64
    stops_with_run: bool = False


@dataclass(frozen=True)
class Stage(Generic[E, S]):
    """One consumer group. `reads` is its stream; `on_dead` handles an event that is given up: its run must hear. It is
    given None for an event that can't be read."""

    name: str
    accepts: tuple[type[E], ...]
    emits: tuple[type[Event], ...]
    handle: Callable[[E, Context[S]], Awaitable[Sequence[Event]]]
    reads: str
    policy: Policy = Policy()
    state: type[S] | None = None
    on_dead: Callable[[E | None, ErrorInfo, Context[S]], Awaitable[Sequence[Event]]] | None = None


AnyStage = Stage[Any, Any]
