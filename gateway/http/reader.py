"""Reads the results of a partition's runs, and the feeds of those that somebody listens to, into memory.

What is said on a feed belongs between what is said on the results stream. Both are read in one transaction, so that
nothing of either comes before what it follows from.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import anyio

from deploy.wiring import Victoria
from gateway.http.tapes import BEGINNING, Entry, Id, Tapes
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
        listened = {run_id: tape for run_id, tape in tapes.items() if tape.feed}
        if anyio.current_time() < self._due:
            listened = {found.run_id: listened[found.run_id] for found in results if found.run_id in listened}
        else:
            self._due = anyio.current_time() + FEEDS_EVERY
        pieces, read = list[Heard](), dict[str, Id]()
        if listened:
            at_once = self._client.pipeline(transaction=True)
            at_once.xread(self._after(place), count=BATCH)
            at_once.xread({feed(run_id): text_of(tape.fed) for run_id, tape in listened.items()}, count=PIECES)
            more, said = await at_once.execute()
            if entries := _entries(more):
                results, place = results + _heard(entries), id_of(entries[-1][0])
            pieces, read = await self._pieces(said, {feed(found.run_id) for found in results})
        self._place = place
        for run_id, tape in listened.items():
            tape.fed = max(tape.fed, read.get(feed(run_id), BEGINNING))
        self._give(results, pieces)

    def _after(self, place: Id) -> dict[str, str]:
        return {self._results: text_of(place)}

    async def _pieces(self, reply: Any, concerned: set[str]) -> tuple[list[Heard], dict[str, Id]]:
        """What feeds have, of the `concerned` all of it: it comes before their results. And how far each is read."""
        pieces, read = list[Heard](), dict[str, Id]()
        while reply:
            rest: dict[str, str] = {}
            for key, entries in reply:
                name, last = key.decode(), entries[-1][0]
                pieces += _heard(entries)
                read[name] = id_of(last)
                if len(entries) == PIECES and name in concerned:
                    rest[name] = last
            reply = await self._client.xread(rest, count=PIECES) if rest else ()
        return pieces, read

    def _give(self, results: Sequence[Heard], pieces: Sequence[Heard]) -> None:
        """Put all into memory at once, and wake who follows these runs."""
        for found in results:
            self._tapes.result(*found)
        for found in pieces:
            self._tapes.piece(*found)
        followed = self._tapes.followed[self._partition]
        for run_id in {found.run_id for found in (*results, *pieces)}:
            if tape := followed.get(run_id):
                tape.wake()


def _entries(reply: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return reply[0][1] if reply else []


def _heard(entries: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> list[Heard]:
    return [found for found in (heard(*each) for each in entries) if found]
