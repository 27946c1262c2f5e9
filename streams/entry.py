"""One delivered stream entry, decoded once."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from schemas.envelope import MALFORMED, Envelope, decode, decoder, husk
from schemas.errors import ErrorInfo, InvalidInput
from schemas.events import Event
from streams.outcome import Again, DeadLetter, Trace, Try, named
from streams.stage import AnyStage

LATEST = 253_402_300_799_000
"""The end of the year 9999, the latest time a date can hold, in ms since 1970."""
MOST_ATTEMPTS = 1_000_000
LOST = ErrorInfo("entry.lost", "The entry was deleted before it was handled.", "Check what trims the stream.")

Accepts = Mapping[bytes, Callable[[bytes], Envelope[Event]]]
"""How the event types that a stage accepts are read, by their names on the stream."""

_history = msgspec.json.Decoder(tuple[Try, ...])


def accepts(stage: AnyStage) -> Accepts:
    """What a stage can read."""
    return {event.__name__.encode(): decoder(event) for event in stage.accepts}


class Entry:
    """What was delivered: with its `envelope`, or with the `problem` that makes it a dead letter.

    Of an event that can't be read there may be the `husk`. `fields` are names and values in turn, as the server gives
    them. `fresh` says that nobody has handled it before;
    `records` has effects of this handling that travel with its settlement; `rounds` counts handlings that were in vain,
    since state or records had changed meanwhile. `observed` says that its handling is of interest to an observer.
    """

    __slots__ = (
        *("attempt", "envelope", "fields", "fresh", "history", "husk", "id"),
        *("observed", "partition", "problem", "records", "rounds"),
    )

    def __init__(self, entry_id: bytes, fields: Sequence[bytes], partition: str, accepted: Accepts) -> None:
        self.id, self.fields, self.partition = entry_id, fields, partition
        self.attempt, self.rounds, self.fresh, self.observed = 1, 0, False, False
        self.history: tuple[Try, ...] = ()
        self.records: dict[str, bytes] = {}
        self.envelope: Envelope[Event] | None = None
        self.husk: Envelope[None] | None = None
        self.problem: ErrorInfo | None = None
        try:
            # Nearly all are just these two fields; whatever else comes is looked at closely.
            if len(fields) == 4 and fields[0] == b"type" and fields[2] == b"event" and fields[1] in accepted:
                self.envelope = accepted[fields[1]](fields[3])
            else:
                self._examine(accepted)
        except InvalidInput as problem:
            self.problem = problem.info
            if problem.code == MALFORMED:  # unlike one of a newer version, no other worker can read it
                self.husk = husk(self._named()[b"event"])
        except Exception as problem:  # whatever somebody put there, a worker must get past it
            self.problem = ErrorInfo(
                "entry.malformed",
                f"The entry is not an event: {named(problem)[:500]}",
                "An entry has the fields `type` and `event`; `victoria events` shows them.",
            )

    def _examine(self, accepted: Accepts) -> None:
        if not self.fields:
            self.problem = LOST
            return
        fields = self._named()
        attempt = int(fields.get(b"attempt", 1))
        if not 1 <= attempt <= MOST_ATTEMPTS:
            raise ValueError(f"attempt {attempt:.3g}" if abs(attempt) < 10**300 else "attempt")
        self.attempt = attempt
        self.history = _history.decode(fields.get(b"history", b"[]"))
        envelope = decode(fields[b"type"].decode(), fields[b"event"])
        if fields[b"type"] in accepted:
            self.envelope = envelope
        else:
            self.problem = ErrorInfo(
                "event.unexpected",
                f"This stage does not accept {type(envelope.body).__name__}.",
                "`victoria events` shows which stream an event belongs on.",
            )

    def _named(self) -> dict[bytes, bytes]:
        return dict(zip(self.fields[::2], self.fields[1::2], strict=True))

    @property
    def run(self) -> str:
        """The run it belongs to, "" if that can't be told."""
        whose = self.envelope or self.husk
        return whose.run if whose else ""

    @property
    def arrived(self) -> int:
        """When it first came on the stream, ms since 1970 by the server's clock; what was made by hand may lie in any
        future."""
        first = self._named().get(b"arrived", b"") if len(self.fields) > 4 else b""
        return min(int(first if first.isdigit() else self.id.split(b"-")[0]), LATEST)

    @property
    def size(self) -> int:
        """Bytes of all its fields."""
        return sum(map(len, self.fields))

    def again(self, outcome: Again) -> bytes:
        """This entry as it comes back: JSON [type, event, attempt, history as JSON, arrived], for promote.lua."""
        fields, history = self._named(), self.history
        if outcome.error:
            history += (Try(self.attempt, datetime.now(UTC), outcome.error, outcome.trace.digest),)
        said = msgspec.json.encode(history).decode()
        # Bytes that are not UTF-8 can only stand where nobody reads: in fields the event does not have.
        kind, event = fields[b"type"].decode(), fields[b"event"].decode(errors="replace")
        return msgspec.json.encode([kind, event, outcome.attempt, said, str(self.arrived)])

    def letter(self, stage: AnyStage, error: ErrorInfo, trace: Trace) -> bytes:
        """This entry as a dead letter, a DeadLetter in JSON. Bytes that are not UTF-8 are replaced."""
        text = {k.decode(errors="replace"): v.decode(errors="replace") for k, v in self._named().items()}
        own = {"type", "event", "attempt", "history", "arrived"}
        return msgspec.json.encode(
            DeadLetter(
                stage=stage.name,
                stream=stage.reads,
                entry=self.id.decode(),
                error=error,
                attempts=self.attempt,
                type=text.get("type", ""),
                event=text.get("event", ""),
                fields={name: value for name, value in text.items() if name not in own},
                trace=trace.frames,
                digest=trace.digest,
                history=self.history,
                arrived=self.arrived,
            )
        )
