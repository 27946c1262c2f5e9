"""Putting first events on their streams: once, however often it is tried, and no more than the stages get through."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple, cast
from uuid import uuid4

import msgspec

from schemas.envelope import UNREADABLE, Envelope, derived_id, encode
from schemas.errors import Overloaded, Published
from schemas.events import Event
from schemas.plan import Limits, Trust
from streams.connection import Client
from streams.gathered import Gathered
from streams.keys import Keys
from streams.observer import SILENT, Observer
from streams.scripts import Scripts

AT_ONCE = 256
"""Events in one script call, which blocks the server for about 1 ms."""
BYTES_AT_ONCE = 1024 * 1024
"""Bytes after which no further event goes into the same call."""
RETRY_AFTER = 1.0
"""Seconds after which a refused event may fit."""


SUBMITTED = "submitted"
"""The field of a run's hash that holds its first envelope."""
ENTERED = "submitted.at"
"""The field that holds the id of that one's entry, from which it is known whether a stage was given it."""


def first_id(run_id: str, event: type[Event]) -> str:
    """The id of a run's first event, where that is of this type."""
    return derived_id(run_id, event.__name__)


class First(msgspec.Struct, frozen=True):
    """What else of a run's first envelope holds for all that come from outside."""

    limits: Limits | None = None


def new_run_id() -> str:
    """A new run's id: 32 hexadecimal characters, of which the first 12 are the time in ms, so ids sort by age."""
    stamp = int(datetime.now(UTC).timestamp() * 1000)
    return f"{stamp:012x}{uuid4().hex[:20]}"


class Entry(NamedTuple):
    """An entry to be: its marker's key, the event's type, and the event."""

    marker: str
    name: str
    event: bytes


class Publisher:
    """Appends runs' first events.

    `groups` are the consumer groups of a stream by its name. While `backlog` entries of a partition wait for one of
    them, delivered or not, no more are accepted; 0 is no limit.
    """

    def __init__(
        self,
        client: Client,
        keys: Keys,
        groups: Mapping[str, Sequence[str]] = MappingProxyType({}),
        backlog: int = 0,
        observer: Observer = SILENT,
    ) -> None:
        self._client, self._scripts = client, Scripts(client)
        self._keys, self._groups, self._backlog = keys, groups, backlog
        self._observer = observer
        self._appending: dict[str, Gathered[Entry, int]] = {}

    async def publish(
        self,
        events: Sequence[tuple[str, Event]],
        stream: str,
        trust: Trust = "user",
        limits: Limits | None = None,
    ) -> list[Published]:
        """Append (run id, event) pairs to `stream`, in their order; what became of each. `limits` hold for each run.

        Trying again adds nothing twice. Raises Overloaded `intake.overloaded` with the results when some were refused,
        after all that fit were appended; redis errors when the server is in trouble.
        """
        places: dict[str, list[int]] = {}
        for place, (run_id, _) in enumerate(events):
            places.setdefault(self._keys.of_run(run_id), []).append(place)
        replies = [0] * len(events)

        with self._observer.publishing(stream, events) as traceparents:

            async def append(partition: str, some: Sequence[int]) -> None:
                entries = [self._entry(partition, *events[place], trust, limits, traceparents[place]) for place in some]
                asked = map(self._calls(partition, stream).ask, entries)
                for place, reply in zip(some, await asyncio.gather(*asked), strict=True):
                    replies[place] = reply

            ended = await asyncio.gather(*(append(*each) for each in places.items()), return_exceptions=True)
            for problem in ended:
                if problem:
                    raise problem
        results: list[Published] = ["refused" if r < 0 else "appended" if r else "known" for r in replies]
        waiting = -min(replies, default=0)
        if waiting > 0:
            raise Overloaded(
                "intake.overloaded",
                f"The stream {stream} is full: {waiting:,} entries wait, the limit is {self._backlog:,}.",
                f"Try again in {RETRY_AFTER:g} s, start more workers, or raise VICTORIA_BACKLOG.",
                RETRY_AFTER,
                results,
            )
        return results

    def _calls(self, partition: str, stream: str) -> Gathered[Entry, int]:
        """The calls that append to a stream. Who gives up publishing publishes nothing later."""
        key, counted = self._keys.stream(partition, stream), self._keys.counted(partition, stream)
        if key not in self._appending:
            groups = self._groups.get(stream, ())

            async def append(entries: Sequence[Entry]) -> list[int]:
                return await self._scripts.append_all(key, counted, SUBMITTED, self._backlog, groups, entries)

            self._appending[key] = Gathered(
                append, AT_ONCE, lambda entry: len(entry.event), BYTES_AT_ONCE, give_up=True
            )
        return self._appending[key]

    async def add(self, run_id: str, event: Event, stream: str, trust: Trust = "user", about: str = "") -> bool:
        """Append one more event of a run from outside, of each type once, or once for all it is `about`; whether it was
        new. It has the limits of the run's first event. Raises redis errors."""
        partition = self._keys.of_run(run_id)
        limits = await self._limits(self._keys.run(partition, run_id))
        with self._observer.publishing(stream, [(run_id, event)]) as (traceparent,):
            marker, name, data = self._entry(partition, run_id, event, trust, limits, traceparent, about)
            field = f"{name}:{about}" if about else name
            return await self._scripts.append_once(marker, self._keys.stream(partition, stream), field, name, data)

    async def _limits(self, run: str) -> Limits | None:
        first = cast("bytes | None", await self._client.hget(run, SUBMITTED))
        try:
            return msgspec.json.decode(first, type=First).limits if first else None
        except UNREADABLE:
            return None

    def _entry(
        self,
        partition: str,
        run_id: str,
        event: Event,
        trust: Trust,
        limits: Limits | None,
        traceparent: str,
        about: str = "",
    ) -> Entry:
        """The event as the script takes it."""
        name = type(event).__name__
        envelope = Envelope(
            id=derived_id(run_id, name, *([about] if about else [])),
            run=run_id,
            v=event.version,
            at=datetime.now(UTC),
            trust=trust,
            body=event,
            traceparent=traceparent,
            limits=limits,
        )
        return Entry(self._keys.run(partition, run_id), name, encode(envelope))
