"""Dead letters: looked at, put back on their streams, corrected or dropped; each once, and with a line in the audit."""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

from schemas.envelope import UNREADABLE, decode, husk
from schemas.errors import ErrorInfo, InvalidInput
from streams.connection import Client
from streams.follow import Seen, seen
from streams.keys import Keys
from streams.outcome import DeadLetter, Try
from streams.ranges import EntryId, Range
from streams.scan import scan
from streams.scripts import Arg, Scripts
from streams.topology import Topology

HISTORY = 100
"""Failed handlings that an entry takes along at most, the latest."""
AT_ONCE, BYTES_AT_ONCE = 100, 1024 * 1024
"""Letters in one script call, and bytes after which no further one goes into it."""
NO_LETTER = ErrorInfo("letter.malformed", "It is no dead letter.", "Whoever put it there: drop it.")

Action = Literal["redrive", "drop", "edit", "redeliver"]


class Audit(msgspec.Struct, frozen=True):
    """What somebody did by hand with `what`, a letter or an entry; `entry` is what came of it, "" for nothing."""

    entry: str
    action: Action
    what: str
    stage: str
    run: str
    by: str
    at: datetime


class Letter(NamedTuple):
    """A letter where it lies. `run` is "" where that can't be told."""

    partition: str
    id: str
    run: str
    letter: DeadLetter

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.partition}/{self.id}"


class Which(NamedTuple):
    """Which letters: all of these that are not empty must fit."""

    stage: str = ""
    code: str = ""
    run: str = ""

    def __call__(self, entry: Seen) -> bool:
        """Whether an entry is one of them."""
        if self == Which():
            return True
        letter = letter_of(entry) or DeadLetter("", "", "", NO_LETTER)
        fits = self.stage in ("", letter.stage) and self.code in ("", letter.error.code)
        return fits and self.run in ("", run_of(letter))


def letter_of(entry: Seen) -> DeadLetter | None:
    """The letter that an entry is, None where it is none."""
    if entry.type != "DeadLetter":
        return None
    try:
        return msgspec.json.decode(entry.text, type=DeadLetter)
    except UNREADABLE:
        return None


def run_of(letter: DeadLetter) -> str:
    """The run it is about, "" where that can't be told."""
    envelope = husk(letter.event.encode(errors="replace"))
    return envelope.run if envelope else ""


class Letters:
    """The dead letters of all partitions. `by` is who does something, for the audit."""

    def __init__(self, client: Client, keys: Keys, topology: Topology, by: str = "") -> None:
        self._client, self._keys, self._topology, self._by = client, keys, topology, by
        self._scripts = Scripts(client)
        self._partitions = {keys.dead(p): p for p in keys.everywhere()}

    async def among(self, which: Which, span: Range, after: str = "") -> AsyncGenerator[Letter]:
        """Those of a range, oldest first; of pages the ones after the named letter. Raises InvalidInput `dead.unknown`,
        redis errors."""
        places = list(self._partitions.values())
        since = (EntryId(0, 0), -1)
        if after:
            partition, entry_id = self._place(after)
            since = (entry_id, places.index(partition))
            span = span._replace(first=max(span.first, entry_id))
        async for entry in scan(self._client, list(self._partitions), span, (), which):
            found = self._read(entry)
            if (EntryId.of(found.id), places.index(found.partition)) > since:
                yield found

    async def named(self, names: Iterable[str]) -> list[Letter]:
        """Letters by name. Raises InvalidInput `dead.unknown`, redis errors."""
        found: list[Letter] = []
        for name in names:
            partition, entry_id = self._place(name)
            key = self._keys.dead(partition)
            entries: Any = await self._client.xrange(key, str(entry_id), str(entry_id))
            if not entries:
                raise _unknown(name)
            found += [self._read(seen(key, each, fields)) for each, fields in entries]
        return found

    def _read(self, entry: Seen) -> Letter:
        letter = letter_of(entry) or DeadLetter("", "", "", NO_LETTER, event=entry.text)
        return Letter(self._partitions[entry.stream], entry.id, run_of(letter), letter)

    def _place(self, name: str) -> tuple[str, EntryId]:
        partition, slash, entry_id = name.rpartition("/")
        if not slash and self._keys.partitions == 1:
            partition = "0"
        try:
            place = EntryId.of(entry_id)
        except ValueError:
            raise _unknown(name) from None
        if partition not in self._partitions.values() or place.ms >= 2**64 or place.number >= 2**64:
            raise _unknown(name)
        return partition, place

    async def hindered(self, letters: Sequence[Letter]) -> list[str]:
        """For each letter why it can't be redriven, "" where it can."""
        looking = self._client.pipeline(transaction=False)
        for letter in letters:
            looking.exists(self._keys.run(self._keys.of_run(letter.run), letter.run))
        kept = await looking.execute()
        return [self._hindrance(letter, bool(there)) for letter, there in zip(letters, kept, strict=True)]

    def _hindrance(self, of: Letter, kept: bool) -> str:
        if problem := self.misfit(of.letter):
            return problem
        return "" if kept else "nothing of its run is kept any more: what was done for it would be done again"

    def misfit(self, letter: DeadLetter) -> str:
        """What keeps the letter's stage from reading its event, "" for nothing."""
        accepted = {stage.name: [event.__name__ for event in stage.accepts] for stage in self._topology.stages}
        if letter.stage not in accepted:
            return f"there is no stage {letter.stage!r} here to give it to"
        if not letter.event:
            return "its event is lost"
        if letter.type not in accepted[letter.stage]:
            return f"{letter.stage} takes no {letter.type or 'entry without a type'}: edit it first"
        try:
            decode(letter.type, letter.event.encode())
        except (InvalidInput, UnicodeEncodeError):
            return "its event can't be read: edit it first"
        return ""

    async def redrive(self, letters: Sequence[Letter]) -> list[bool]:
        """Put their events back on their streams, history and all, as if they were new. For each whether it was done;
        not if somebody else was faster. Raises redis errors."""
        return await self._move("redrive", letters, self._back)

    async def drop(self, letters: Sequence[Letter]) -> list[bool]:
        """Remove them; for each whether it was still there. Raises redis errors."""
        return await self._move("drop", letters, lambda _: ("", ()))

    async def replace(self, letter: Letter, corrected: DeadLetter) -> bool:
        """Put a corrected letter in the place of one; whether that was still there. Raises redis errors."""
        fields: tuple[Arg, ...] = ("type", "DeadLetter", "event", msgspec.json.encode(corrected))
        return (await self._move("edit", [letter], lambda _: (self._keys.dead(letter.partition), fields)))[0]

    def _back(self, of: Letter) -> tuple[str, Sequence[Arg]]:
        """The stream of a letter's event, and its entry there."""
        letter, died = of.letter, EntryId.of(of.id).ms
        last = Try(letter.attempts, datetime.fromtimestamp(died / 1000, UTC), letter.error, letter.digest)
        history = msgspec.json.encode((*letter.history, last)[-HISTORY:])
        arrived = letter.arrived or died
        fields = ("type", letter.type, "event", letter.event, "attempt", 1, "history", history, "arrived", arrived)
        return self._keys.stream(of.partition, self._topology.stage(letter.stage).reads), fields

    async def _move(
        self, action: Action, letters: Sequence[Letter], to: Callable[[Letter], tuple[str, Sequence[Arg]]]
    ) -> list[bool]:
        done: dict[str, bool] = {}
        for partition in dict.fromkeys(letter.partition for letter in letters):
            for batch in _batches([letter for letter in letters if letter.partition == partition]):
                keys, args = [self._keys.dead(partition), self._keys.audit(partition)], list[Arg]()
                for letter in batch:
                    target, fields = to(letter)
                    if target and target not in keys:
                        keys.append(target)
                    audit = Audit(
                        "ENTRY", action, letter.name, letter.letter.stage, letter.run, self._by, datetime.now(UTC)
                    )
                    place = keys.index(target) + 1 if target else 0
                    args += (letter.id, msgspec.json.encode(audit), place, len(fields), *fields)
                moved = await self._scripts.move_letters(keys, args)
                done |= {letter.name: bool(each) for letter, each in zip(batch, moved, strict=True)}
        return [done[letter.name] for letter in letters]


def _batches(letters: Sequence[Letter]) -> Iterable[list[Letter]]:
    batch, size = list[Letter](), 0
    for letter in letters:
        batch.append(letter)
        size += len(letter.letter.event)
        if len(batch) == AT_ONCE or size >= BYTES_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _unknown(name: str) -> InvalidInput:
    return InvalidInput("dead.unknown", f"There is no dead letter {name[:80]!r}.", "`victoria dead list` names them.")
