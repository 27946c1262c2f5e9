"""What becomes of a handled entry: decided here, purely; carried out by scripts/settle.lua."""

from dataclasses import dataclass

import msgspec
from redis.exceptions import RedisError, ResponseError

from schemas.errors import ErrorInfo, VictoriaError
from streams.stage import AnyStage, Policy, Reject, Snooze


@dataclass(frozen=True, slots=True)
class Emitted:
    """Handled: what the handler said follows."""


@dataclass(frozen=True, slots=True)
class Again:
    """Not now: the entry comes back after `delay` seconds as its `attempt`-th handling."""

    delay: float
    attempt: int
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class Dead:
    """Given up: a dead letter."""

    error: ErrorInfo


Outcome = Emitted | Again | Dead


def failed(problem: BaseException, attempt: int, policy: Policy, jitter: float) -> Again | Dead:
    """What a failed handling leads to. `attempt` counts from 1; `jitter` is a random number between 0 and 1."""
    match problem:
        case Snooze():
            return Again(problem.delay, attempt)
        case Reject():
            return Dead(ErrorInfo("stage.rejected", str(problem), "The event itself is wrong: correct what sent it."))
        case VictoriaError() if not problem.retryable:
            return Dead(problem.info)
        case RedisError() if not isinstance(problem, ResponseError) or _passing(problem):
            # The server's trouble is not the event's fault.
            return Again(policy.backoff, attempt, described(problem))
        case _:
            error = described(problem)
    if attempt >= policy.attempts:
        return Dead(error)
    delay = min(policy.backoff * 2 ** (attempt - 1), policy.backoff_max)
    return Again(delay * (0.75 + jitter / 2), attempt + 1, error)


def _passing(problem: ResponseError) -> bool:
    """Whether an error reply is about the server's state, and not about what it was asked."""
    states = ("OOM", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY ")
    return any(state in str(problem) for state in states)


def described(problem: BaseException) -> ErrorInfo:
    """Any exception as data."""
    if isinstance(problem, VictoriaError):
        return problem.info
    if isinstance(problem, TimeoutError):
        return ErrorInfo("stage.timeout", "The stage took longer than its policy allows.")
    return ErrorInfo("stage.error", f"{type(problem).__name__}: {problem}"[:1000])


def undeclared(stage: AnyStage, event: object) -> ErrorInfo:
    """The error of a stage that says what its `emits` does not declare."""
    return ErrorInfo("stage.undeclared", f"{stage.name!r} said {type(event).__name__}, which it does not declare.")


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """An entry that was given up, kept with all that is needed to understand it and to try it again.

    `type` and `event` are the entry's own fields, as text; `fields` all of them where it had others.
    """

    stage: str
    stream: str
    entry: str
    error: ErrorInfo
    attempts: int = 1
    type: str = ""
    event: str = ""
    fields: dict[str, str] = {}
