"""Giving a range of a stage's entries to it once more: planned first, and not what is done already.

An entry is done where what the stage said of it stands on a stream, or where its run's journal has the change of state
or the answer that it led to. What is still to come, in hand or put off is left alone: it is not done, and will be. So
is what belongs to a run of which nothing is kept, for its recorded effects would be repeated.
"""

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

from schemas.envelope import Envelope, derived_id
from schemas.events import Event, InferenceRequested
from streams.connection import Client
from streams.entry import accepts
from streams.follow import Seen
from streams.journal import state_effect
from streams.keys import Keys
from streams.letters import AT_ONCE, BYTES_AT_ONCE, Audit
from streams.ranges import LAST, EntryId, Range
from streams.scan import ends, scan
from streams.scripts import Arg, Scripts
from streams.stage import AnyStage
from streams.topology import Topology

FIELDS = 6
"""Arguments of an entry in the script's call."""
KNOWN_FOR = 7 * 86_400_000
"""Ms for which it is known what was given to a stage once more."""

PLANNED_AT_ONCE, PLANNED_BYTES = 5_000, 32 * 1024 * 1024
"""Entries that are planned together, and bytes after which no further one is: what was said is looked through for all
of them at once."""

Fate = Literal["again", "done", "waiting", "no event", "forgotten", "redelivered"]
"""What becomes of an entry: it is given to the stage once more; or is left, because it is done, will be given to it
anyway, can't be read by it, is of a run of which nothing is kept, or was given to it once more before."""


class Planned(NamedTuple):
    """An entry and what is to become of it."""

    partition: str
    entry: Seen
    fate: Fate


class Redelivery:
    """A stage's entries, to be given to it once more. `force`: also what is done, forgotten or was redelivered."""

    def __init__(
        self, client: Client, keys: Keys, topology: Topology, stage: AnyStage, by: str = "", *, force: bool = False
    ) -> None:
        self._client, self._keys, self._stage, self._by, self._force = client, keys, stage, by, force
        self._accepts, self._scripts = accepts(stage), Scripts(client)
        self._said = sorted({stream for event in stage.emits for stream in topology.routes[event]})
        self._partitions = {keys.stream(p, stage.reads): p for p in keys.of_stream(stage.reads)}

    async def planned(self, span: Range) -> AsyncGenerator[list[Planned]]:
        """The entries of a range, oldest first, some at a time. Raises redis errors."""
        batch, size = list[Seen](), 0
        async for entry in scan(self._client, list(self._partitions), span):
            batch.append(entry)
            size += len(entry.text)
            if len(batch) == PLANNED_AT_ONCE or size >= PLANNED_BYTES:
                yield await self._plan(batch)
                batch, size = [], 0
        if batch:
            yield await self._plan(batch)

    async def again(self, planned: Sequence[Planned]) -> int:
        """Give to the stage what was planned to be; how many that were, without those that somebody else gave to it
        meanwhile. Raises redis errors."""
        given, size = 0, 0
        batches: dict[str, list[list[Arg]]] = {}
        for partition, entry, fate in planned:
            if fate == "again" and entry.envelope:
                parts = batches.setdefault(partition, [[]])
                if len(parts[-1]) >= AT_ONCE * FIELDS or size >= BYTES_AT_ONCE:
                    parts.append([])
                    size = 0
                parts[-1] += self._arguments(entry, entry.envelope)
                size += len(entry.text)
        for partition, parts in batches.items():
            stream, name = self._keys.stream(partition, self._stage.reads), self._stage.name
            keys = [stream, self._keys.redelivered(partition, name), self._keys.audit(partition)]
            for args in parts:
                given += sum(await self._scripts.redeliver(keys, [KNOWN_FOR, int(self._force), *args]))
        return given

    def _arguments(self, entry: Seen, event: Envelope[Event]) -> tuple[Arg, ...]:
        audit = Audit("ENTRY", "redeliver", entry.id, self._stage.name, event.run, self._by, datetime.now(UTC))
        arrived = EntryId.of(entry.id).ms
        return (event.id, entry.type, entry.text, "[]", arrived, msgspec.json.encode(audit))

    async def _plan(self, entries: Sequence[Seen]) -> list[Planned]:
        places = [self._partitions[entry.stream] for entry in entries]
        envelopes = [entry.envelope if entry.type.encode() in self._accepts else None for entry in entries]
        waiting = await self._waiting(entries)
        done = set[str]() if self._force else await self._done(entries)
        looking: Any = self._client.pipeline(transaction=False)
        for partition, envelope in zip(places, envelopes, strict=True):
            run, event = (envelope.run, envelope.id) if envelope else ("", "")
            looking.exists(self._keys.run(self._keys.of_run(run), run))
            looking.hexists(self._keys.redelivered(partition, self._stage.name), event)
            looking.hexists(self._keys.journal(run), self._record(envelope))
        known: list[Any] = await looking.execute()
        planned: list[Planned] = []
        for number, (partition, entry, envelope) in enumerate(zip(places, entries, envelopes, strict=True)):
            kept, redelivered, recorded = known[3 * number : 3 * number + 3]
            fate: Fate = "again"
            if envelope is None:
                fate = "no event"
            elif (entry.stream, entry.id) in waiting:
                fate = "waiting"
            elif not self._force:
                fate = "done" if recorded else self._fate(envelope, done, bool(kept), bool(redelivered))
            planned.append(Planned(partition, entry, fate))
        return planned

    def _record(self, envelope: Envelope[Event] | None) -> str:
        """What its run's journal has of an event that is done, also where the stage said nothing."""
        if envelope and isinstance(envelope.body, InferenceRequested):
            return envelope.body.effect
        return state_effect(envelope.id, self._stage.name) if envelope and self._stage.state else ""

    @staticmethod
    def _fate(envelope: Envelope[Event], done: set[str], kept: bool, redelivered: bool) -> Fate:
        if envelope.id in done:
            return "done"
        if redelivered:
            return "redelivered"
        return "again" if kept else "forgotten"

    async def _waiting(self, entries: Sequence[Seen]) -> set[tuple[str, str]]:
        """Those that the stage is to be given anyway, has in hand, or that wait for a retry."""
        looking: Any = self._client.pipeline(transaction=False)
        streams = list(dict.fromkeys(entry.stream for entry in entries))
        for stream in streams:
            looking.xinfo_groups(stream)
        for entry in entries:
            looking.xpending_range(entry.stream, self._stage.name, entry.id, entry.id, 1)
        replies: list[Any] = await looking.execute(raise_on_error=False)
        places = dict[str, EntryId]()
        for stream, groups in zip(streams, replies, strict=False):
            found = () if isinstance(groups, Exception) else groups
            named = [each for each in found if each["name"].decode() == self._stage.name]
            places[stream] = EntryId.of(named[0]["last-delivered-id"]) if named else EntryId(0, 0)
        waiting = set[tuple[str, str]]()
        for entry, pending in zip(entries, replies[len(streams) :], strict=True):
            in_hand = bool(pending) and not isinstance(pending, Exception)
            if in_hand or EntryId.of(entry.id) > places[entry.stream]:
                waiting.add((entry.stream, entry.id))
        return waiting | await self._put_off(entries)

    async def _put_off(self, entries: Sequence[Seen]) -> set[tuple[str, str]]:
        ids, found = {(entry.stream, entry.id) for entry in entries}, set[tuple[str, str]]()
        for stream, partition in self._partitions.items():
            client: Any = self._client
            async for member, _ in client.zscan_iter(self._keys.delayed(partition, self._stage.reads)):
                found.add((stream, member.split(b" ", 1)[0].decode(errors="replace")))
        return ids & found

    async def _done(self, entries: Sequence[Seen]) -> set[str]:
        """The events of which something was said: that has an id made of theirs."""
        sought = {derived_id(self._stage.name, e.envelope.id, 0): e.envelope.id for e in entries if e.envelope}
        keys = [self._keys.stream(p, stream) for p in self._partitions.values() for stream in self._said]
        keys = [key for key in keys if not key.endswith("feed:RUN")]
        found = set[str]()
        if not keys or not sought:
            return found
        since = Range(EntryId(min(EntryId.of(entry.id).ms for entry in entries), 0), LAST)
        async for said in scan(self._client, keys, since, await ends(self._client, keys)):
            if said.envelope and said.envelope.id in sought:
                found.add(sought[said.envelope.id])
                if len(found) == len(sought):
                    break
        return found
