"""Entries of many streams in order of time, however many there are: no more than a page of each is held."""

from collections.abc import AsyncGenerator, Callable, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Any

from streams.connection import Client
from streams.follow import Seen, seen
from streams.ranges import FIRST, LAST, EntryId, Range

PAGE = 200
"""Entries in one read of one stream, fewer where the last ones were so large that these would exceed the bytes."""
PAGE_BYTES = 4 * 1024 * 1024
FIRST_PAGE = 20
"""As long as nothing is known of them."""

Wanted = Callable[[Seen], bool]
Place = tuple[EntryId, int]
"""Where an entry stands among all: its id, and the number of its stream."""


async def ends(client: Client, keys: Sequence[str]) -> list[EntryId]:
    """The newest id of each stream, also where its entry is gone again; 0-0 where there never was one."""
    looking: Any = client.pipeline(transaction=False)
    for key in keys:
        looking.xinfo_stream(key)
    found: list[EntryId] = []
    replies: list[Any] = await looking.execute(raise_on_error=False)
    for reply in replies:
        if not isinstance(reply, Exception):
            found.append(EntryId.of(reply["last-generated-id"]))
        elif "no such key" in str(reply):
            found.append(FIRST)
        else:
            raise reply
    return found


async def scan(
    client: Client, keys: Sequence[str], span: Range, until: Sequence[EntryId] = (), wanted: Wanted | None = None
) -> AsyncGenerator[Seen]:
    """The wanted entries of a range, oldest first, without what came after `until`, the ends of the streams, by default
    those at the start. The newest are counted among the wanted ones. Raises redis errors."""
    tops = [min(end, span.last) for end in until or await ends(client, keys)]
    since: Place = (span.first, 0)
    if span.newest is not None:
        oldest: Place | None = None
        left = span.newest
        async for place, entry in _merged(client, keys, span.first, tops, backwards=True):
            if not left:
                break
            if wanted is None or wanted(entry):
                oldest, left = place, left - 1
        if oldest is None:
            return
        since = oldest
    async for place, entry in _merged(client, keys, since[0], tops):
        if place >= since and (wanted is None or wanted(entry)):
            yield entry


async def newest_first(client: Client, keys: Sequence[str], first: EntryId) -> AsyncGenerator[Seen]:
    """The entries since `first`, the newest first, without what comes meanwhile. Raises redis errors."""
    async for _, entry in _merged(client, keys, first, await ends(client, keys), backwards=True):
        yield entry


async def _merged(
    client: Client, keys: Sequence[str], first: EntryId, tops: Sequence[EntryId], *, backwards: bool = False
) -> AsyncGenerator[tuple[Place, Seen]]:
    sign = -1 if backwards else 1
    heads: list[tuple[int, int, int, Seen, AsyncGenerator[tuple[EntryId, Seen]]]] = []
    for number, (key, top) in enumerate(zip(keys, tops, strict=True)):
        entries = _entries(client, key, first, top, backwards)
        async for entry_id, entry in entries:
            heads.append((sign * entry_id.ms, sign * entry_id.number, sign * number, entry, entries))
            break
    heapify(heads)
    while heads:
        ms, count, number, entry, entries = heads[0]
        yield (EntryId(sign * ms, sign * count), sign * number), entry
        async for entry_id, following in entries:
            heapreplace(heads, (sign * entry_id.ms, sign * entry_id.number, number, following, entries))
            break
        else:
            heappop(heads)


async def _entries(
    client: Client, key: str, first: EntryId, last: EntryId, backwards: bool
) -> AsyncGenerator[tuple[EntryId, Seen]]:
    """One stream's, page by page."""
    count = FIRST_PAGE
    while first <= last:
        page: Any = await (
            client.xrevrange(key, str(last), str(first), count)
            if backwards
            else client.xrange(key, str(first), str(last), count)
        )
        for entry_id, fields in page:
            yield EntryId.of(entry_id), seen(key, entry_id, fields)
        if len(page) < count:
            return
        edge = EntryId.of(page[-1][0])
        first, last = (first, before(edge)) if backwards else (after(edge), last)
        largest = max(sum(map(len, fields.values())) for _, fields in page) + 1
        count = max(1, min(PAGE, PAGE_BYTES // largest))


def after(place: EntryId) -> EntryId:
    """The next id."""
    return EntryId(place.ms, place.number + 1) if place.number < LAST.number else EntryId(place.ms + 1, 0)


def before(place: EntryId) -> EntryId:
    """The id before."""
    return EntryId(place.ms, place.number - 1) if place.number else EntryId(place.ms - 1, LAST.number)
