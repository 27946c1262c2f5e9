"""A breaker: what failed is left alone for a while, then tried once, and used again when that went well."""

from llm.models import BreakerState
from schemas.errors import ErrorInfo

FAILURES = 3
"""Failures in a row that open it, of those which may be one request's fault."""
REST, REST_AT_MOST = 1.0, 60.0
"""Seconds it stays open at first; doubled with each trial that fails, up to the second."""


class Breaker:
    """Of one model at one node. Times are seconds of any steady clock."""

    def __init__(self) -> None:
        self.state: BreakerState = "closed"
        self.error: ErrorInfo | None = None
        self._failures, self._rest, self._until = 0, REST, 0.0

    def failed(self, error: ErrorInfo, now: float, *, at_once: bool) -> None:
        """A request failed; with `at_once` that is reason enough to open."""
        self._failures += 1
        if self.state == "closed" and (at_once or self._failures >= FAILURES):
            self._open(error, now)

    def succeeded(self) -> None:
        """A request was answered, or a trial went well."""
        self.state, self.error = "closed", None
        self._failures, self._rest = 0, REST

    def may_try(self, now: float) -> bool:
        """Whether it has rested; it is half-open from then on, until the trial's end is told."""
        if self.state != "open" or now < self._until:
            return False
        self.state = "half-open"
        return True

    def trial_failed(self, error: ErrorInfo, now: float) -> None:
        """A trial went wrong: a longer rest."""
        self._rest = min(2 * self._rest, REST_AT_MOST)
        self._open(error, now)

    def trial_ended(self) -> None:
        """A trial was broken off: there may be another one at once."""
        self.state = "open"

    def wake(self) -> None:
        """There is a sign of life: let it be tried now."""
        self._until = 0.0

    def _open(self, error: ErrorInfo, now: float) -> None:
        self.state, self.error, self._until = "open", error, now + self._rest
