"""How far stages are behind. What can't be known is None, never 0, and has bounds beside it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import anyio
import msgspec

from streams.connection import Client
from streams.groups import FOLLOWER
from streams.keys import Keys
from streams.ranges import EntryId
from streams.scripts import Looked, Scripts
from streams.topology import Topology

LOOKED_THROUGH = 1_000
"""Entries of a line that are looked at: up to 1 ms of the server's time."""
COUNTED = 500
"""Entries that are counted at each side of a group's place: up to 1 ms for each."""
LOOKED_BYTES = 1024 * 1024
"""Bytes of entries that are counted or looked at, after which it is left at that."""
AT_ONCE = 16
"""Places that are looked at side by side."""


class Count(NamedTuple):
    """A number that is None where it can't be known, and what it is at least and at most."""

    known: int | None
    least: int
    most: int

    def __add__(self, other: "Count") -> "Count":  # pyright: ignore[reportIncompatibleMethodOverride] - not a tuple's
        known = None if self.known is None or other.known is None else self.known + other.known
        return Count(known, self.least + other.least, self.most + other.most)


def exactly(number: int) -> Count:
    """A number that is known."""
    return Count(number, number, number)


class Lag(msgspec.Struct, frozen=True):
    """Entries of a stage, over all partitions: not yet given to a worker, None where the server lost count; given and
    not yet settled; and put off for a retry."""

    undelivered: int | None
    pending: int
    delayed: int

    @classmethod
    def of(cls, measure: "Measure") -> "Lag":
        """The same of a stage's measure."""
        return cls(measure.undelivered.known, measure.pending, measure.delayed)


class Measure(msgspec.Struct, frozen=True):
    """A stage's work in one partition, or in all, at one time.

    `at` is the server's time in seconds. `undelivered` entries were not yet given to a worker, `pending` ones were and
    are not settled, `abandoned` of these by workers without a lease; `delayed` ones wait for a retry or for what they
    snooze for; `dead` ones were given up. `oldest` is the age in seconds of the oldest unfinished entry since it was
    put on its stream, or since it was due where it was put off; None where there is none. `held` is how long ago in
    seconds the first pending one was delivered. `added` counts the entries the stream ever had. `mark` changes
    whenever the stage gets on. `consumers` hold a lease, in several partitions the least; None where none is held.
    """

    stage: str
    stream: str
    partition: str
    at: float
    undelivered: Count
    pending: int
    abandoned: int
    delayed: int
    dead: Count
    oldest: float | None
    held: float
    added: int
    mark: str
    consumers: int | None

    @property
    def unfinished(self) -> Count:
        """Undelivered and pending ones."""
        return self.undelivered + exactly(self.pending)


class InLine(NamedTuple):
    """Runs with entries that a stage has still to be given, and how many entries come before the first of each; how
    many entries were looked at for that, and whether they are all."""

    places: Mapping[bytes, int]
    entries: int
    all: bool

    def place(self, run_id: str) -> int | None:
        """That of a run; None where it has none, or comes after those that were looked at."""
        return self.places.get(run_id.encode())


def total(measures: Sequence[Measure]) -> Measure:
    """One stage's measures as one, of no single partition."""
    first = measures[0]
    undelivered, dead = exactly(0), exactly(0)
    for each in measures:
        undelivered, dead = undelivered + each.undelivered, dead + each.dead
    leases = [each.consumers for each in measures if each.consumers is not None]
    return msgspec.structs.replace(
        first,
        stream=first.stream if all(each.stream == first.stream for each in measures) else "",
        partition="",
        at=max(each.at for each in measures),
        undelivered=undelivered,
        pending=sum(each.pending for each in measures),
        abandoned=sum(each.abandoned for each in measures),
        delayed=sum(each.delayed for each in measures),
        dead=dead,
        oldest=max((each.oldest for each in measures if each.oldest is not None), default=None),
        held=max(each.held for each in measures),
        added=sum(each.added for each in measures),
        mark=" ".join(each.mark for each in measures),
        consumers=min(leases, default=None),
    )


def undelivered(found: Looked) -> Count:
    """How many entries lie behind a group's place.

    Counted from there to the stream's end, or from its beginning up to there, whichever is near. Where neither is, the
    server's own figure stands if it can be true.
    """
    length, server = found.length, found.server
    if found.behind.all:
        return exactly(found.behind.counted)
    if found.before.all:
        return exactly(length - found.before.counted)
    least, most = found.behind.counted, length - found.before.counted
    return Count(server, server, server) if least <= server <= most else Count(None, least, most)


async def measures(client: Client, keys: Keys, topology: Topology) -> list[Measure]:
    """Every stage in every partition, and who follows all streams, where somebody ever did. Raises redis errors."""
    scripts, dead = Scripts(client), dict[str, tuple[int, int, Mapping[str, int]]]()
    reads = [(stage.name, stage.reads) for stage in topology.stages]
    if await _followed(client, keys, topology):
        reads += [(FOLLOWER, stream) for stream in topology.streams()]
    places = [(name, stream, p) for name, stream in reads for p in keys.of_stream(stream)]
    found: dict[int, Measure] = {}
    room = anyio.CapacityLimiter(AT_ONCE)

    async def count_dead(partition: str) -> None:
        async with room:
            dead[partition] = await scripts.count_letters(keys.dead(partition), LOOKED_THROUGH, LOOKED_BYTES)

    async def measure(number: int, name: str, stream: str, partition: str) -> None:
        async with room:
            own = [keys.stream(partition, stream), keys.delayed(partition, stream), keys.leases(partition, name)]
            looked = await scripts.lag(own, name, COUNTED, LOOKED_BYTES)
        found[number] = _measure(name, stream, partition, looked, _of_stage(name, *dead[partition]))

    await _together(count_dead, ((p,) for p in keys.everywhere()))
    await _together(measure, ((number, *place) for number, place in enumerate(places)))
    return [found[number] for number in range(len(places))]


async def _together(work: Any, arguments: Iterable[tuple[Any, ...]]) -> None:
    try:
        async with anyio.create_task_group() as tasks:
            for each in arguments:
                tasks.start_soon(work, *each)
    except BaseExceptionGroup as problems:
        raise problems.exceptions[0] from None


async def _followed(client: Client, keys: Keys, topology: Topology) -> bool:
    looking: Any = client.pipeline(transaction=False)
    for stream in topology.streams():
        for partition in keys.of_stream(stream):
            looking.xinfo_groups(keys.stream(partition, stream))
    replies: list[Any] = await looking.execute(raise_on_error=False)
    found = [group for groups in replies if not isinstance(groups, Exception) for group in groups]
    return any(group["name"].decode() == FOLLOWER for group in found)


def _of_stage(name: str, letters: int, looked: int, counts: Mapping[str, int]) -> Count:
    own = counts.get(name, 0)
    return exactly(own) if looked >= letters else Count(None, own, letters - sum(counts.values()) + own)


def _measure(name: str, stream: str, partition: str, found: Looked, dead: Count) -> Measure:
    follows = name == FOLLOWER
    waits = [EntryId.of(entry_id).ms for entry_id in (found.first, found.first_pending) if entry_id]
    if 0 <= found.due <= found.now and not follows:
        waits.append(found.due)
    return Measure(
        stage=name,
        stream=stream,
        partition=partition,
        at=found.now / 1000,
        undelivered=undelivered(found),
        pending=found.pending,
        abandoned=0 if follows else found.abandoned,
        delayed=0 if follows else found.delayed,
        dead=dead,
        oldest=max(found.now - min(waits), 0) / 1000 if waits else None,
        held=max(found.idle, 0) / 1000,
        added=found.added,
        mark=f"{found.place}/{found.first_pending}/{found.pending}/{found.delayed}",
        consumers=None if follows else found.consumers,
    )


async def lags(client: Client, keys: Keys, topology: Topology) -> dict[str, Lag]:
    """How far each stage is behind, and who follows all streams. Raises redis errors."""
    return {name: Lag.of(each) for name, each in (await totals(client, keys, topology)).items()}


async def totals(client: Client, keys: Keys, topology: Topology) -> dict[str, Measure]:
    """Each stage's measure over all partitions, and that of who follows all streams. Raises redis errors."""
    found: dict[str, list[Measure]] = {}
    for each in await measures(client, keys, topology):
        found.setdefault(each.stage, []).append(each)
    return {name: total(shares) for name, shares in found.items()}


async def lines(client: Client, streams: Mapping[str, str]) -> dict[str, InLine]:
    """The runs whose entries wait to be given to each of these groups, on the stream that it reads. Raises redis
    errors."""
    scripts, found = Scripts(client), dict[str, InLine]()

    async def look(group: str, stream: str) -> None:
        runs, complete = await scripts.in_line(stream, group, LOOKED_THROUGH, LOOKED_BYTES)
        found[group] = InLine({run: place for place, run in reversed([*enumerate(runs)])}, len(runs), complete)

    await _together(look, streams.items())
    return found
