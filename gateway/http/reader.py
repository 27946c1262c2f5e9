"""Reads the results of a partition's runs, and the feeds of those that somebody listens to, into memory.

What is said on a feed belongs between what is said on the results stream. Both are read in one transaction, so that
nothing of either comes before what it follows from.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import anyio

from deploy.victoria import Victoria
from gateway.http.tapes import BEGINNING, Entry, Id, Tapes, Track
from gateway.submit import PASSING, PATIENCE, SHOWN
from schemas.envelope import decode
from schemas.errors import InvalidInput, NotReachable, VictoriaError
from streams.connection import reachable

BATCH = 200
"""Results read at once."""
PIECES = 10
"""Pieces of each feed read at once."""
FEEDS_EVERY = 0.1
"""Seconds between two looks at the feeds, on which a piece comes as often."""
IDLE = 1.0
"""Seconds for which a read waits at most where nobody listens to feeds."""
TRY_AGAIN = 0.2
"""Seconds before the server is tried again."""
BACK, BACK_BYTES = 5_000, 4 * 1024 * 1024
"""How far back the reading begins, so that clients of another door that died are not each searched for."""

_KINDS = {kind.__name__.encode() for kind in SHOWN}


class Heard(NamedTuple):
    """An entry, the run it is of, and its bytes."""

    run_id: str
    entry: Entry
    size: int


def id_of(text: str | bytes) -> Id:
    """An entry's id as numbers."""
    stamp, _, number = (text if isinstance(text, str) else text.decode()).partition("-")
    return int(stamp), int(number)


def text_of(place: Id) -> str:
    """An entry's id as the server writes it."""
    return f"{place[0]}-{place[1]}"


def heard(entry_id: bytes, fields: dict[bytes, bytes]) -> Heard | None:
    """What an entry says, if it is for people who follow its run."""
    kind, data = fields.get(b"type", b""), fields.get(b"event", b"")
    if kind not in _KINDS:
        return None
    try:
        envelope = decode(kind.decode(), data)
    except InvalidInput:
        return None
    body = envelope.body
    return (
        Heard(envelope.run, Entry(id_of(entry_id), envelope.at, body), len(data)) if isinstance(body, SHOWN) else None
    )


class Reader:
    """The reader of one partition. `told` hears of trouble when the server stays away, and None when it is back."""

    def __init__(
        self, victoria: Victoria, partition: str, tapes: Tapes, told: Callable[[VictoriaError | None], None]
    ) -> None:
        self._url, self._keys = victoria.url, victoria.keys
        self._client: Any = victoria.client
        self._partition, self._tapes, self._told = partition, tapes, told
        self._results = victoria.keys.stream(partition, "results")
        self._place = BEGINNING
        self._due = 0.0
        self._idle = min(FEEDS_EVERY * self._keys.partitions, IDLE)

    async def begin(self) -> None:
        """Find where to begin. Raises NotReachable."""
        place, count, size = "+", 0, 0
        with reachable(self._url):
            while count < BACK and size < BACK_BYTES:
                page = await self._client.xrevrange(self._results, max=place, count=BATCH)
                count += len(page)
                size += sum(len(fields.get(b"event", b"")) for _, fields in page)
                if len(page) < BATCH:
                    place = "0-0"
                    break
                place = f"({page[-1][0].decode()}"
        self._place = id_of(place.removeprefix("("))
        self._tapes.begin(self._partition, self._place)

    async def run(self) -> None:
        """Read until cancelled."""
        away: float | None = None
        while True:
            try:
                with reachable(self._url):
                    await self._read()
            except NotReachable as problem:
                away = anyio.current_time() if away is None else away
                if problem.code not in PASSING or anyio.current_time() > away + PATIENCE:
                    self._told(problem)
                await anyio.sleep(TRY_AGAIN)
            else:
                if away is not None:
                    self._told(None)
                    away = None

    async def _read(self) -> None:
        """One batch of results, as soon as there are any, and what is on the feeds beside them."""
        tapes, feed = self._tapes.followed[self._partition], self._keys.feed
        wait = FEEDS_EVERY if any(tape.feed for tape in tapes.values()) else self._idle
        entries = _entries(await self._client.xread(self._after(self._place), count=BATCH, block=int(wait * 1000)))
        results, place = _heard(entries), id_of(entries[-1][0]) if entries else self._place
        if anyio.current_time() < self._due:
            tracks = self._listened({found.run_id for found in results})
        else:
            tracks, self._due = self._listened(tapes), anyio.current_time() + FEEDS_EVERY
        pieces, read = list[Heard](), dict[str, Id]()
        if tracks:
            at_once = self._client.pipeline(transaction=True)
            at_once.xread(self._after(place), count=BATCH)
            at_once.xread(self._unread(tracks), count=PIECES)
            more, said = await at_once.execute()
            if entries := _entries(more):
                results, place = results + _heard(entries), id_of(entries[-1][0])
            await self._pieces(said, {feed(found.run_id) for found in results}, pieces, read)
        # Who began to listen meanwhile is not to be told of results before what came on the feed ahead of them.
        concerned = {found.run_id for found in results}
        while late := {run: track for run, track in self._listened(concerned).items() if tracks.get(run) is not track}:
            tracks |= late
            pieces = [found for found in pieces if found.run_id not in late]  # they were read for another track
            said = await self._client.xread(self._unread(late), count=PIECES)
            await self._pieces(said, {feed(run_id) for run_id in late}, pieces, read)
        self._place = place
        self._give(results, pieces, tracks)
        for run_id, track in tracks.items():
            track.read = max(track.read, read.get(feed(run_id), BEGINNING))

    def _listened(self, runs: Iterable[str]) -> dict[str, Track]:
        """The feeds of those of these runs to whose feed somebody listens."""
        tapes = self._tapes.followed[self._partition]
        found = ((run_id, tapes[run_id].feed) for run_id in runs if run_id in tapes)
        return {run_id: track for run_id, track in found if track}

    def _unread(self, tracks: dict[str, Track]) -> dict[str, str]:
        return {self._keys.feed(run_id): text_of(track.read) for run_id, track in tracks.items()}

    def _after(self, place: Id) -> dict[str, str]:
        return {self._results: text_of(place)}

    async def _pieces(self, reply: Any, concerned: set[str], pieces: list[Heard], read: dict[str, Id]) -> None:
        """Note what feeds have, of the `concerned` all of it: it comes before their results. And how far each is
        read."""
        while reply:
            rest: dict[str, str] = {}
            for key, entries in reply:
                name, last = key.decode(), entries[-1][0]
                pieces += _heard(entries)
                read[name] = id_of(last)
                if len(entries) == PIECES and name in concerned:
                    rest[name] = last
            reply = await self._client.xread(rest, count=PIECES) if rest else ()

    def _give(self, results: Sequence[Heard], pieces: Sequence[Heard], tracks: dict[str, Track]) -> None:
        """Put all into memory at once, and wake who follows these runs."""
        followed = self._tapes.followed[self._partition]
        for found in results:
            self._tapes.result(*found)
        for found in pieces:
            tape, track = followed.get(found.run_id), tracks.get(found.run_id)
            if tape and track and tape.feed is track:  # and nobody who listened has gone and come again
                self._tapes.keep(found.run_id, track, found.entry, found.size)
        for run_id in {found.run_id for found in (*results, *pieces)}:
            if tape := followed.get(run_id):
                tape.wake()


def _entries(reply: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return reply[0][1] if reply else []


def _heard(entries: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> list[Heard]:
    return [found for found in (heard(*each) for each in entries) if found]
