"""Reading runs from the streams, for replays: nothing is written, and no group hears of it."""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from datetime import datetime
from heapq import merge
from typing import Any, NamedTuple, cast

import msgspec

from schemas.envelope import UNREADABLE
from schemas.errors import InvalidInput
from schemas.events import CancelRequested, GoalSubmitted, QuestionAnswered, RunFinished
from streams.append import SUBMITTED
from streams.connection import Client
from streams.keys import INFERENCE, Keys
from streams.outcome import DeadLetter, Try
from streams.ranges import Range
from streams.replay import FORK
from streams.scan import scan
from streams.tape import Entry, State, Tape
from streams.topology import Topology

AT_ONCE, BYTES = 1_000, 16 * 1024 * 1024
"""Entries in one read, fewer where the last ones were so large that these would exceed the bytes."""
SLACK = (60_000, 3_600_000, 10**15)
"""Ms by which the clocks of doors and servers may differ: as little as will do is looked through."""
AFTERWARDS, SOON = 60_000, 2_000
"""Ms after a run's end in which what is said of it is read still; and where many runs are."""
RUNS_AT_ONCE = 256
"""Runs whose journals are read together."""
READINGS = 5
"""Of a run that goes on, at most, for a tape of which all is of one time."""
DIGITS = 20
"""A number with more is none."""
OPEN_RUNS = 100_000
"""Runs at most that are under way at one time, where many are read."""
JOIN = (CancelRequested, QuestionAnswered)
"""What comes from outside into a run that is there already."""


class _Whose(msgspec.Struct):
    run: str
    cause: str = ""


class _When(msgspec.Struct):
    at: datetime


class _Found(NamedTuple):
    """An entry on its way: when it came (ms, its stream's number, its own), the run it is of, and the entry or the dead
    letter."""

    at: tuple[int, int, int]
    run: str
    what: Entry | DeadLetter


_whose = msgspec.json.Decoder(_Whose).decode
_letter = msgspec.json.Decoder(DeadLetter).decode
_history = msgspec.json.Decoder(tuple[Try, ...]).decode


class History:
    """The runs that the streams of a server hold."""

    def __init__(self, client: Client, keys: Keys, topology: Topology) -> None:
        self._client: Any = client
        self._keys, self._topology = keys, topology

    async def tape(self, run_id: str) -> Tape:
        """One run, with the questions that models were asked. Of one that is not there any more there is what is left:
        `missing` says so. It may be empty. One that goes on is read again until nothing moves, a few times."""
        tape = await self._tape(run_id)
        for _ in range(READINGS - 1):
            then = Tape(run_id)
            await self._add_kept([then])
            if _kept(then) == _kept(tape):
                break
            tape = await self._tape(run_id)
        return tape

    async def _tape(self, run_id: str) -> Tape:
        partition = self._keys.of_run(run_id)
        tape = Tape(run_id)
        await self._add_kept([tape])
        first = await self._client.hget(self._keys.run(partition, run_id), SUBMITTED)
        began = _ms(first)
        for slack in SLACK:
            tape.entries, tape.letters = [], []
            since = max(0, began - slack)
            until = await self._read(tape, partition, "results", since, None)
            for stream in (*self._of_runs(), "dead"):
                await self._read(tape, partition, stream, since, until)
            for stream in self._topology.streams():
                if stream.startswith("infer."):
                    await self._read(tape, INFERENCE, stream, since, until)
            await self._read(tape, INFERENCE, "dead", since, until)
            if began and self._has_begin(tape):
                break
        order = {name: number for number, name in enumerate(("intake", *self._topology.streams()))}
        tape.entries.sort(key=lambda entry: (int(entry.id.partition("-")[0]), order.get(entry.stream, 0)))
        tape.missing = await self._trimmed(self._kept_in(partition), began)
        if not (tape.missing or self._has_begin(tape)):
            tape.missing = ("its first event",)
        return tape

    async def tapes(self, since: int, only: Collection[str] | None = None) -> AsyncIterator[Tape]:
        """The runs that began at `since`, ms since 1970, or later, without the questions to models: those that have
        ended, or these, ended or not."""
        for partition in self._keys.of_stream("results"):
            waiting: list[Tape] = []
            async for tape in self._partition(partition, since, only):
                waiting.append(tape)
                if len(waiting) == RUNS_AT_ONCE:
                    await self._add_kept(waiting)
                    for each in waiting:
                        yield each
                    waiting = []
            await self._add_kept(waiting)
            for each in waiting:
                yield each

    async def gone(self, since: int) -> tuple[str, ...]:
        """What is known not to be there any more of the runs that began at `since`, ms since 1970, or later."""
        found: dict[str, None] = {}
        for partition in self._keys.of_stream("results"):
            found |= dict.fromkeys(await self._trimmed(self._kept_in(partition), since))
        return tuple(found)

    async def within(self, stream: str, span: Range) -> dict[str, set[str]]:
        """The runs that have entries in a range of a stream, over all partitions, and these events' ids. Raises
        InvalidInput `range.too_large`."""
        found: dict[str, set[str]] = {}
        keys = [self._keys.stream(partition, stream) for partition in self._keys.of_stream(stream)]
        async for entry in scan(self._client, keys, span):
            if entry.envelope:
                found.setdefault(entry.envelope.run, set()).add(entry.envelope.id)
            if len(found) > OPEN_RUNS:
                raise InvalidInput("range.too_large", f"There are more than {OPEN_RUNS:,} runs in it.", "Take fewer.")
        return found

    async def began(self, runs: Collection[str]) -> int:
        """When the first of these runs was submitted, ms since 1970; 0 where that is not known."""
        pipeline = self._client.pipeline(transaction=False)
        for run_id in runs:
            pipeline.hget(self._keys.run(self._keys.of_run(run_id), run_id), SUBMITTED)
        return max(0, min(map(_ms, await pipeline.execute()), default=0) - SLACK[0])

    def _has_begin(self, tape: Tape) -> bool:
        """Whether there is the event that the run begins with; a fork begins with another's state."""
        begin = {event.__name__ for event in self._topology.entries if event not in JOIN}
        return any(entry.type in begin and not _whose(bytes(entry.event)).cause for entry in tape.entries) or any(
            effect.startswith(f"{FORK}/") for effect in tape.effects
        )

    def _of_runs(self) -> tuple[str, ...]:
        return tuple(s for s in self._topology.streams() if not s.startswith("infer.") and s != "results")

    async def _read(self, tape: Tape, partition: str, stream: str, since: int, until: int | None) -> int | None:
        """Add a stream's entries of a run; until when others have to be read: some time after its end."""
        name, last = tape.run.encode(), "+" if until is None else str(until)
        end: int | None = None
        async for entry_id, fields in self._entries(partition, stream, str(since), last):
            data = fields.get(b"event", b"")
            if name not in data:
                continue
            for found in _found(stream, entry_id, fields):
                if found.run != tape.run:
                    continue
                if isinstance(found.what, DeadLetter):
                    tape.letters.append(found.what)
                else:
                    tape.entries.append(found.what)
                    if found.what.type == RunFinished.__name__:
                        end = end or found.at[0] + AFTERWARDS
            if end and int(entry_id.split(b"-")[0]) > end:
                break
        return end or until

    async def _entries(
        self, partition: str, stream: str, first: str, last: str
    ) -> AsyncGenerator[tuple[bytes, dict[bytes, bytes]]]:
        """A stream's entries of a range, page by page."""
        key, start, largest = self._keys.stream(partition, stream), first, 64 * 1024
        while True:
            count = max(1, min(AT_ONCE, BYTES // largest))
            page = await self._client.xrange(key, start, last, count=count)
            for entry_id, fields in page:
                yield entry_id, fields
            if len(page) < count:
                return
            start = f"({page[-1][0].decode()}"
            largest = max(sum(map(len, fields.values())) for _, fields in page) + 1

    async def _partition(self, partition: str, since: int, only: Collection[str] | None) -> AsyncIterator[Tape]:
        """A partition's streams, read side by side in order of time: each run that ended, soon after its end, and of
        `only` those, also the others."""
        streams = ("intake", *(s for s in self._of_runs() if s != "intake"), "results", "dead")
        under_way: dict[str, Tape] = {}
        ending: dict[str, int] = {}
        async for found in self._merged(partition, streams, since):
            while ending and next(iter(ending.values())) < found.at[0]:
                run = next(iter(ending))
                del ending[run]
                if only is None:
                    yield under_way.pop(run)
            tape = under_way.get(found.run)
            if tape is None:
                begins = isinstance(found.what, Entry) and found.what.type == GoalSubmitted.__name__
                wanted = begins if only is None else found.run in only
                if not wanted or len(under_way) >= OPEN_RUNS:
                    continue
                tape = under_way[found.run] = Tape(found.run)
            if isinstance(found.what, DeadLetter):
                tape.letters.append(found.what)
                continue
            tape.entries.append(found.what)
            if found.what.type == RunFinished.__name__:
                ending.setdefault(found.run, found.at[0] + (SOON if only is None else AFTERWARDS))
        for run, tape in under_way.items():
            if only is not None or run in ending:
                yield tape

    async def _merged(self, partition: str, streams: Sequence[str], since: int) -> AsyncIterator[_Found]:
        """What is on some streams, in order of time: pages are read as they are needed."""
        # Of one ms, what came on the first stream is first: a run's goal, before what it led to.
        sources = [
            _Source(self._entries(partition, stream, str(since), "+"), stream, number)
            for number, stream in enumerate(streams)
        ]
        for source in sources:
            await source.fill()
        while live := [source for source in sources if source.held]:
            # Up to where each has been read to, nothing can come in between any more.
            horizon = min((source.held[-1].at for source in live if not source.over), default=None)
            parts = [source.until(horizon) for source in live]
            for found in merge(*parts, key=lambda each: each.at):
                yield found
            for source in live:
                await source.fill()

    async def _add_kept(self, tapes: Sequence[Tape]) -> None:
        """Add the journals and the last states of runs."""
        pipeline = self._client.pipeline(transaction=False)
        for tape in tapes:
            pipeline.hgetall(self._keys.journal(tape.run))
            pipeline.hgetall(self._keys.run(self._keys.of_run(tape.run), tape.run))
        found = cast("list[dict[bytes, bytes]]", await pipeline.execute() if tapes else [])
        for tape, journal, run in zip(tapes, found[::2], found[1::2], strict=True):
            tape.effects = {k.decode(errors="replace"): v for k, v in journal.items() if not k.endswith(b"!")}
            for stage in self._topology.stages:
                name = stage.name.encode()
                if stage.state and name in run and run.get(name + b".v", b"").isdigit():
                    tape.states[stage.name] = State(stage.name, int(run[name + b".v"]), msgspec.Raw(run[name]))

    async def letters_gone(self, tape: Tape) -> tuple[str, ...]:
        """Which dead letters that may be the run's are not kept any more: no archive has them."""
        began = min((int(entry.id.partition("-")[0]) for entry in tape.entries), default=0)
        return await self._trimmed([(p, "dead") for p in (self._keys.of_run(tape.run), INFERENCE)], began)

    def _kept_in(self, partition: str) -> list[tuple[str, str]]:
        """Where all is that a replay of a partition's runs needs."""
        return [(partition, stream) for stream in self._of_runs()]

    async def _trimmed(self, places: Sequence[tuple[str, str]], began: int) -> tuple[str, ...]:
        """What is known to be gone of a run that began then, of these partitions' streams."""
        pipeline = self._client.pipeline(transaction=False)
        for place in places:
            pipeline.xinfo_stream(self._keys.stream(*place))
        gone: list[str] = []
        for (_, stream), info in zip(places, await pipeline.execute(raise_on_error=False), strict=True):
            if isinstance(info, Exception) or info["entries-added"] <= info["length"]:
                continue
            since = info["first-entry"][0] if info["first-entry"] else info["last-generated-id"]
            if int(since.split(b"-")[0]) >= began:
                gone.append(f"what came on the stream {stream} before {since.decode()}")
        return tuple(gone)


class _Source:
    """One stream that is read page by page. `over`: there is no more than what is held."""

    def __init__(self, entries: AsyncGenerator[tuple[bytes, dict[bytes, bytes]]], stream: str, number: int) -> None:
        self._entries, self._stream, self._number = entries, stream, number
        self.held: list[_Found] = []
        self.over = False

    async def fill(self) -> None:
        """Hold something, if there is anything left."""
        while not self.held and not self.over:
            try:
                for _ in range(AT_ONCE):
                    entry_id, fields = await anext(self._entries)
                    self.held += _found(self._stream, entry_id, fields, self._number)
            except StopAsyncIteration:
                self.over = True

    def until(self, horizon: tuple[int, int, int] | None) -> list[_Found]:
        """Take what came up to then, all for None."""
        if horizon is None:
            taken, self.held = self.held, []
            return taken
        count = sum(found.at <= horizon for found in self.held)
        taken, self.held = self.held[:count], self.held[count:]
        return taken


def _ms(event: bytes | None) -> int:
    """When an event was said, ms since 1970; 0 where that is not known."""
    try:
        return int(msgspec.json.decode(event or b"", type=_When).at.timestamp() * 1000)
    except (*UNREADABLE, OverflowError):
        return 0


def _found(stream: str, entry_id: bytes, fields: dict[bytes, bytes], number: int = 0) -> list[_Found]:
    """A stream's entry, if it is a run's."""
    ms, _, count = entry_id.partition(b"-")
    data, at = fields.get(b"event", b""), (int(ms), number, int(count))
    try:
        if stream == "dead":
            letter = _letter(data)
            return [_Found(at, _whose(letter.event).run, letter)] if letter.event else []
        entry = Entry(
            stream,
            entry_id.decode(),
            fields.get(b"type", b"").decode(),
            msgspec.Raw(data),
            _number(fields.get(b"arrived", b"0")),
            _number(fields.get(b"attempt", b"1")),
            _tries(fields.get(b"history", b"[]")),
        )
        return [_Found(at, _whose(data).run, entry)]
    except UNREADABLE:
        return []


def _kept(tape: Tape) -> tuple[set[str], dict[str, int]]:
    """What shows whether a run has gone on."""
    return set(tape.effects), {stage: state.version for stage, state in tape.states.items()}


def _number(text: bytes) -> int:
    """A count or a time in ms; 0 for what can be none."""
    return int(text) if text.isdigit() and len(text) < DIGITS else 0


def _tries(text: bytes) -> tuple[Try, ...]:
    """The failed handlings of an entry, none where nobody can read them."""
    try:
        return _history(text)
    except UNREADABLE:
        return ()
