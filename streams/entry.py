"""One delivered stream entry, and its way into the settle script's arguments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from schemas.envelope import Envelope, decode, derived_id, encode
from schemas.errors import ErrorInfo, InvalidInput
from schemas.events import Event
from schemas.plan import Trust
from streams.keys import Keys
from streams.outcome import Again, Dead, DeadLetter, Emitted, Outcome
from streams.scripts import Arg
from streams.stage import AnyStage
from streams.topology import Topology

LATEST = 253_402_300_799_000
"""The end of the year 9999, the latest time a date can hold, in ms since 1970."""
LOST = ErrorInfo("entry.lost", "The entry was deleted before it was handled.", "Check what trims the stream.")


class Entry:
    """What was delivered: decoded once, or with the problem that makes it a dead letter."""

    __slots__ = ("attempt", "envelope", "fields", "id", "partition", "problem")

    def __init__(self, entry_id: bytes, fields: Mapping[bytes, bytes], partition: str, stage: AnyStage) -> None:
        self.id, self.fields, self.partition = entry_id, fields, partition
        self.attempt = 1
        self.envelope: Envelope[Event] | None = None
        self.problem: ErrorInfo | None = None
        if not fields:
            self.problem = LOST
            return
        try:
            self.attempt = int(fields.get(b"attempt", 1))
            envelope = decode(fields[b"type"].decode(), fields[b"event"])
        except InvalidInput as problem:
            self.problem = problem.info
        except (KeyError, ValueError) as problem:
            self.problem = ErrorInfo(
                "entry.malformed",
                f"The entry is not an event: {type(problem).__name__} {problem}",
                "An entry has the fields `type` and `event`; `victoria events` shows them.",
            )
        else:
            if isinstance(envelope.body, stage.accepts):
                self.envelope = envelope
            else:
                self.problem = ErrorInfo(
                    "event.unexpected",
                    f"Stage {stage.name!r} does not accept {type(envelope.body).__name__}.",
                    "`victoria events` shows which stream an event belongs on.",
                )

    @property
    def arrived(self) -> int:
        """When it came on the stream, ms since 1970 by the server's clock; an id made by hand may lie in any future."""
        return min(int(self.id.split(b"-")[0]), LATEST)

    def text(self, field: bytes) -> str:
        """One field for people; bytes that are not UTF-8 are replaced."""
        return self.fields.get(field, b"").decode(errors="replace")

    def letter(self, stage: AnyStage, error: ErrorInfo) -> DeadLetter:
        """This entry as a dead letter."""
        regular = {b"type", b"event", b"attempt"}
        return DeadLetter(
            stage=stage.name,
            stream=stage.reads,
            entry=self.id.decode(),
            error=error,
            attempts=self.attempt,
            type=self.text(b"type"),
            event=self.text(b"event"),
            fields={k.decode(errors="replace"): self.text(k) for k in self.fields if k not in regular},
        )


class Output(NamedTuple):
    """One event on its way to one stream of the entry's partition."""

    stream: str
    type: str
    event: bytes


@dataclass(frozen=True, slots=True)
class NewState:
    """A run's state as it was found (`version`) and as a handler left it."""

    version: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Handled:
    """An entry with its outcome and all that follows from it, ready to be settled."""

    entry: Entry
    outcome: Outcome
    outputs: Sequence[Output] = ()
    state: NewState | None = None


def outputs(
    cause: Envelope[Event], events: Sequence[Event], stage: AnyStage, topology: Topology, trust: Trust
) -> list[Output]:
    """What a handler said, encoded for every stream it goes to. Raises where an event can't be encoded."""
    now = datetime.now(UTC)
    found: list[Output] = []
    for position, event in enumerate(events):
        envelope = Envelope(
            id=derived_id(cause.id, stage.name, position),
            run=cause.run,
            v=event.version,
            at=now,
            trust=trust,
            body=event,
            cause=cause.id,
            traceparent=cause.traceparent,
        )
        payload, name = encode(envelope), type(event).__name__
        found += [Output(stream, name, payload) for stream in topology.routes[type(event)]]
    return found


class Settlement:
    """Collects handled entries of one partition as keys and arguments of scripts/settle.lua."""

    def __init__(self, stage: AnyStage, keys: Keys, partition: str) -> None:
        self._stage, self._names, self._partition = stage, keys, partition
        self.keys = [
            keys.stream(partition, stage.reads),
            keys.delayed(partition, stage.reads),
            keys.dead(partition),
        ]
        self.args: list[Arg] = [stage.name]
        self._index: dict[str, int] = {}

    def _key(self, key: str) -> int:
        index = self._index.get(key)
        if index is None:
            self.keys.append(key)
            index = self._index[key] = len(self.keys)
        return index

    def add(self, handled: Handled) -> None:
        """Append one entry's arguments."""
        entry, state, args = handled.entry, handled.state, self.args
        said: list[Arg] = []
        for output in handled.outputs:
            said += (self._key(self._names.stream(self._partition, output.stream)), output.type, output.event)
        match handled.outcome:
            case Again(delay, attempt):
                again = [entry.text(b"type"), entry.text(b"event"), attempt]
                args += (entry.id, "retry", 0, int(delay * 1000), msgspec.json.encode(again))
            case Dead(error):
                letter = msgspec.json.encode(entry.letter(self._stage, error))
                args += (entry.id, "dead", len(handled.outputs), *said, letter)
            case Emitted() if state and entry.envelope:
                run = self._key(self._names.run(self._partition, entry.envelope.run))
                version = int(state.version)
                args += (entry.id, "state", len(handled.outputs), *said)
                args += (run, self._stage.name, version, version + 1, state.data)
            case Emitted():
                args += (entry.id, "ack", len(handled.outputs), *said)
