"""One base for every error a person or a program meets: a code to match on, a sentence, and what to do about it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec

if TYPE_CHECKING:
    from schemas.plan import Usage

Published = Literal["appended", "known", "refused"]
"""What became of an event from outside: put on its stream; there already, from an earlier try; or not, since too many
wait."""


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as data, for events, dead letters, the journal and `--json`."""

    code: str
    message: str
    hint: str = ""


class VictoriaError(Exception):
    """Base of all errors Victoria raises on purpose.

    `code` is dotted and stable (`goal.empty`); `message` says what is wrong, `hint` what to do.
    `retryable` tells a stage's policy whether trying the same thing again can help.
    `exit_code` is what the command line ends with.
    """

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint

    @property
    def info(self) -> ErrorInfo:
        """The same as data."""
        return ErrorInfo(self.code, self.message, self.hint)

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]" + (f" {self.hint}" if self.hint else "")


class InvalidInput(VictoriaError):
    """What was given can't be accepted as it is."""

    exit_code = 2


class CouldNotStart(VictoriaError):
    """A part Victoria needs (server, model, settings) could not be started."""

    exit_code = 3


class NotReachable(VictoriaError):
    """A server that should be there does not answer, or can't work as it stands now."""

    retryable = True
    exit_code = 5


class Overloaded(VictoriaError):
    """Too much waits already. `results` says for each event what became of it: those `refused` may be tried again
    after `retry_after` seconds."""

    retryable = True

    def __init__(
        self, code: str, message: str, hint: str, retry_after: float, results: Sequence[Published] = ()
    ) -> None:
        super().__init__(code, message, hint)
        self.retry_after, self.results = retry_after, results


class ToolRefused(VictoriaError):
    """A tool would have left its limits, or can't do what was asked."""


class ModelFailed(VictoriaError):
    """No usable answer from a model: none configured, too slow, or never valid. Stages fall back to rules.

    `usage` is what that cost, None where it is not known.
    """

    def __init__(self, code: str, message: str, hint: str = "", usage: "Usage | None" = None) -> None:
        super().__init__(code, message, hint)
        self.usage = usage


class AgentFailed(VictoriaError):
    """Another agent did not do what it was given. The step is done here."""


class NoModelNow(VictoriaError):
    """There may be a model for a question later, but there is none now: the question waits."""

    retryable = True


class JournalChanged(VictoriaError):
    """A handler asked for something else than its journal has under the same name."""


class OutcomeUnknown(VictoriaError):
    """A crash came between an action and its record, and its policy forbids doing it again."""


class EffectFailed(VictoriaError):
    """An effect's recorded failure, raised alike when it happens and whenever it is replayed."""
