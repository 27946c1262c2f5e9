"""Events of one test run, and their way over a stream."""

from datetime import UTC, datetime, timedelta

from consumers.runs.state import Asking
from schemas.envelope import Envelope, encode
from schemas.events import Event

START = datetime(2026, 1, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    """A moment of the run."""
    return START + timedelta(seconds=seconds)


def encoded(event: Event) -> bytes:
    """The event as it stands on a stream."""
    return encode(Envelope[Event](id="event-1", run="run-1", v=event.version, at=START, trust="user", body=event))


async def unlisted(_asking: Asking, _key: str) -> None:
    """Where no list of questions is kept."""
