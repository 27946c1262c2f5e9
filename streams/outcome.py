"""What becomes of a handled entry: decided here, purely; carried out by scripts/settle.lua."""

import traceback
from datetime import datetime
from hashlib import blake2b
from pathlib import PurePath
from typing import NamedTuple

import msgspec
from redis.exceptions import (
    AskError,
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from schemas.envelope import UNREADABLE
from schemas.errors import ErrorInfo, VictoriaError
from streams.stage import AnyStage, Policy, Reject, Snooze

STATES = (AskError, ClusterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError)
"""Error replies about the server's state. The client takes their code out of their text."""
LONGEST_DELAY = 366 * 86_400.0
"""Seconds of the longest snooze."""
FRAMES = 8
"""How many of a traceback's last frames are kept."""


class Trace(NamedTuple):
    """Where an exception came from: its last frames, `file.py:line function`, and a digest that is the same for the
    same failure on every machine, so that letters can be grouped by it."""

    digest: str = ""
    frames: str = ""


class Emitted(NamedTuple):
    """Handled: what the handler said follows."""


class Again(NamedTuple):
    """Not now: the entry comes back after `delay` seconds as its `attempt`-th handling."""

    delay: float
    attempt: int
    error: ErrorInfo | None = None
    trace: Trace = Trace()


class Dead(NamedTuple):
    """Given up: a dead letter."""

    error: ErrorInfo
    trace: Trace = Trace()


Outcome = Emitted | Again | Dead
EMITTED = Emitted()


def failed(problem: BaseException, attempt: int, policy: Policy, jitter: float) -> Again | Dead:
    """What a failed handling leads to. `attempt` counts from 1; `jitter` is a random number between 0 and 1."""
    match problem:
        case Snooze() if _is_delay(problem.delay):
            return Again(problem.delay, attempt)
        case Reject():
            why = text_of(problem)[:1000]
            error = ErrorInfo("stage.rejected", why, "The event itself is wrong: correct what sent it.")
            return Dead(error, traced(problem))
        case VictoriaError() if not problem.retryable:
            return Dead(_writable(problem.info), traced(problem))
        case RedisError() if not isinstance(problem, ResponseError) or _passing(problem):
            # The server's trouble is not the event's fault.
            return Again(policy.backoff * (0.75 + jitter / 2), attempt)
        case _:
            error = described(problem)
    if attempt >= policy.attempts:
        return Dead(error, traced(problem))
    delay = min(policy.backoff * 2 ** min(attempt - 1, 60), policy.backoff_max)
    return Again(delay * (0.75 + jitter / 2), attempt + 1, error, traced(problem))


def _is_delay(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= LONGEST_DELAY


def _passing(problem: ResponseError) -> bool:
    """Whether an error reply is about the server's state, and not about what it was asked."""
    return isinstance(problem, STATES) or str(problem).startswith(("BUSY ", "MISCONF ", "NOREPLICAS "))


def described(problem: BaseException) -> ErrorInfo:
    """Any exception as data."""
    if isinstance(problem, VictoriaError):
        return _writable(problem.info)
    if isinstance(problem, TimeoutError):
        return ErrorInfo("stage.timeout", "The stage took longer than its policy allows.")
    return ErrorInfo("stage.error", named(problem)[:1000])


def _writable(error: ErrorInfo) -> ErrorInfo:
    """Without the lone surrogates that names of files may bring."""
    return ErrorInfo(*(text.encode(errors="replace").decode() for text in (error.code, error.message, error.hint)))


def named(problem: BaseException) -> str:
    """An exception's name and message."""
    return f"{type(problem).__name__}: {text_of(problem)}"


def text_of(problem: BaseException) -> str:
    """An exception's message, if it can say one, as text that can be written anywhere."""
    try:
        return str(problem).encode(errors="replace").decode()
    except Exception:
        return "(it can't say)"


def traced(problem: BaseException) -> Trace:
    """Where `problem` came from. Paths are cut to a file and its folder: a letter may be read elsewhere."""
    frames = traceback.extract_tb(problem.__traceback__)[-FRAMES:]
    places = [("/".join(PurePath(frame.filename).parts[-2:]), frame.lineno, frame.name) for frame in frames]
    same = "\n".join([type(problem).__name__, *(f"{file} {name}" for file, _, name in places)])
    text = "\n".join(f"{file}:{line} {name}" for file, line, name in places)
    return Trace(blake2b(same.encode(), digest_size=6).hexdigest(), text)


def undeclared(stage: AnyStage, event: object) -> ErrorInfo:
    """The error of a stage that says what its `emits` does not declare."""
    return ErrorInfo("stage.undeclared", f"{stage.name!r} said {type(event).__name__}, which it does not declare.")


class Try(msgspec.Struct, frozen=True, omit_defaults=True):
    """One failed handling of an entry. `digest` groups equal tracebacks."""

    attempt: int
    at: datetime
    error: ErrorInfo
    digest: str = ""


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """An entry that was given up, kept with all that is needed to understand it and to try it again.

    `type` and `event` are the entry's own fields, as text; `fields` all of them where it had others. `history` has the
    failed handlings before the last one, which `error` and `trace` (the last frames, and their digest) are about.
    `arrived` is when it first came on its stream, ms since 1970.
    """

    stage: str
    stream: str
    entry: str
    error: ErrorInfo
    attempts: int = 1
    type: str = ""
    event: str = ""
    fields: dict[str, str] = {}
    trace: str = ""
    digest: str = ""
    history: tuple[Try, ...] = ()
    arrived: int = 0

    @property
    def event_id(self) -> str:
        """The event's id, "" where it has none."""
        try:
            return msgspec.json.decode(self.event, type=_Whose).id
        except UNREADABLE:
            return ""


class _Whose(msgspec.Struct):
    id: str = ""
