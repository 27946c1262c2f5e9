"""What follows from handled entries, put into the words of scripts/settle.lua.

The keys of a call are the same for every batch of a stage and partition, so most arguments are ready-made; only run
hashes come and go.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec

from schemas.envelope import EVENT_BYTES, Envelope, encode, too_large
from schemas.errors import ErrorInfo
from schemas.events import Event
from schemas.plan import Trust
from streams.entry import Entry
from streams.groups import FOLLOWER
from streams.keys import Keys
from streams.outcome import EMITTED, Again, Dead, Emitted, Outcome, named
from streams.scripts import Arg
from streams.stage import AnyStage
from streams.topology import Topology

OWN_KEYS = 3
"""The source stream, its delayed entries and the dead letters come first among the keys."""


COUNTS = [b"%d" % (arguments // 3) for arguments in range(30)]
"""Numbers of outputs as bytes, which are packed faster than integers, by how many arguments they make."""


class Said(msgspec.Struct, frozen=True, gc=False):
    """Outputs, encoded: (key index, type, event) for each stream each goes to; their size in bytes; and whether they
    end the run."""

    arguments: list[Arg]
    size: int
    ends: bool


NOTHING = Said([], 0, ends=False)


class NewState(msgspec.Struct, frozen=True, gc=False):
    """A run's state as it was found (`version`) and as a handler left it."""

    version: int
    data: bytes


class Handled(msgspec.Struct, frozen=True, gc=False):
    """An entry with its outcome and all that follows from it, ready to be settled."""

    entry: Entry
    outcome: Outcome = EMITTED
    said: Said = NOTHING
    state: NewState | None = None

    @property
    def size(self) -> int:
        """Bytes it takes to settle, about."""
        size = self.said.size + sum(map(len, self.entry.records.values()))
        size += len(self.state.data) if self.state else 0
        return size if self.outcome is EMITTED else size + self.entry.size


class Speech:
    """Turns what a stage says into outputs. `speaks` tells whether the stage declares an event."""

    def __init__(self, stage: AnyStage, topology: Topology) -> None:
        self._stem = blake2b(f"{stage.name}\x1f".encode(), digest_size=12)
        self.streams = tuple(dict.fromkeys(stream for event in stage.emits for stream in topology.routes[event]))
        index = {stream: position for position, stream in enumerate(self.streams, OWN_KEYS + 1)}
        self._targets: dict[type[Event], list[tuple[Arg, Arg]]] = {
            event: [(b"%d" % index[stream], event.__name__.encode()) for stream in topology.routes[event]]
            for event in stage.emits
        }

    def speaks(self, event: Event) -> bool:
        """Whether the stage has declared it."""
        return type(event) in self._targets

    def said(self, cause: Envelope[Event], events: Sequence[Event], trust: Trust) -> Said:
        """Declared events for every stream they go to. Raises where one can't be encoded."""
        if not events:
            return NOTHING
        now, size, ends = datetime.now(UTC), 0, False
        arguments: list[Arg] = []
        for position, event in enumerate(events):
            payload = encode(
                Envelope(
                    self._id(cause.id, position),
                    cause.run,
                    event.version,
                    now,
                    trust,
                    event,
                    cause.id,
                    cause.traceparent,
                    cause.limits,
                )
            )
            if len(payload) > EVENT_BYTES:
                raise too_large(type(event).__name__, len(payload))
            for index, name in self._targets[type(event)]:
                arguments += (index, name, payload)
            ends = ends or event.ends_run
            size += len(payload)
        return Said(arguments, size, ends=ends)

    def _id(self, cause: str, position: int) -> str:
        """`derived_id(stage, cause, position)`, of which the stage's part is the same each time."""
        whole = self._stem.copy()
        whole.update(f"{cause}\x1f{position}".encode())
        return whole.hexdigest()


def _count(said: Said) -> bytes:
    return COUNTS[len(said.arguments)] if len(said.arguments) < len(COUNTS) else b"%d" % (len(said.arguments) // 3)


class Settlement:
    """Handled entries of one partition as keys and arguments of one call. `keep`: seconds an ended run stays."""

    def __init__(self, stage: AnyStage, streams: Sequence[str], names: Keys, partition: str, keep: float) -> None:
        self._stage, self._names, self._partition = stage, names, partition
        stream = names.stream(partition, stage.reads)
        self._keys = [stream, names.delayed(partition, stage.reads), names.dead(partition)]
        self._keys += [names.stream(partition, target) for target in streams]
        self._first: list[Arg] = [stage.name, int(keep * 1000), len(self._keys), FOLLOWER]

    def of(self, batch: Sequence[Handled]) -> tuple[list[str], list[Arg]]:
        """The keys and arguments for a batch."""
        keys, args = list(self._keys), list(self._first)
        for handled in batch:
            try:
                args += self._arguments(handled, keys)
            except Exception as problem:  # an entry that can't even be given up would take its worker with it
                error = ErrorInfo("entry.unsettled", named(problem)[:1000], "What the handler left can't be written.")
                handled.entry.records.clear()
                args += self._arguments(Handled(handled.entry, Dead(error)), keys)
        return keys, args

    def _arguments(self, handled: Handled, keys: list[str]) -> tuple[Arg, ...]:
        """One entry's arguments; the keys that only it needs are added to `keys`."""
        entry, said, state = handled.entry, handled.said, handled.state
        ends: Arg = b"0"
        if said.ends:
            keys += (self._run(entry), self._journal(entry), self._names.budget(entry.run))
            ends = len(keys) - 2
        records: tuple[Arg, ...] = ()
        if entry.records:
            keys.append(self._journal(entry))
            records = (len(keys), *(part for record in entry.records.items() for part in record))
        outputs = (ends, _count(said), len(entry.records) or b"0", *said.arguments, *records)
        match handled.outcome:
            case Emitted() if not state:
                return (entry.id, b"ack", *outputs)
            case Emitted():
                assert state  # noqa: S101 - else the first case
                keys.append(self._run(entry))
                new = (len(keys), self._stage.name, state.version, state.version + 1, state.data)
                return (entry.id, b"state", *outputs, *new)
            case Again() as again:
                return (entry.id, b"retry", *outputs, int(again.delay * 1000), entry.again(again))
            case Dead() as dead:
                return (entry.id, b"dead", *outputs, entry.letter(self._stage, dead.error, dead.trace))

    def _run(self, entry: Entry) -> str:
        return self._names.run(self._partition, entry.run)

    def _journal(self, entry: Entry) -> str:
        return self._names.journal(entry.run)
