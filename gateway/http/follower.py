"""One who follows a run: what comes next, from memory where that reaches, else from the server."""

import re
from collections import deque
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import anyio
import msgspec

from consumers.runs.view import RunView
from deploy.victoria import Victoria
from gateway.http.reader import heard, id_of, text_of
from gateway.http.tapes import BEGINNING, Entry, Id, Tape, Track
from schemas.errors import InvalidInput
from schemas.events import AnswerProgressed, RunFinished, RunProgressed
from streams.connection import reachable
from streams.follow import last_id

SKEW = 10_000
"""Milliseconds by which the clock of a run's door may differ from the server's."""
PAGE = 500
"""Entries read at once where memory does not reach."""
LATEST: Id = (10**15, 0)

PLACE = r"^([0-9]{1,15}-[0-9]{1,15})(/(([0-9]{1,15}-[0-9]{1,15})|(end)))?$"
"""What an id of Happened looks like."""


class Happened(NamedTuple):
    """Something that happened to a run. `id` is the place behind it: how far its follower is on the results stream,
    and after a `/` how far on the run's feed, once there was anything, or `end`: nothing comes any more."""

    id: str
    at: datetime
    body: RunProgressed | AnswerProgressed | RunFinished


class Place(NamedTuple):
    """How far a follower is on the results stream and on the run's feed; whether it has heard the end."""

    results: Id = BEGINNING
    feed: Id = BEGINNING
    over: bool = False

    @classmethod
    def of(cls, text: str) -> "Place":
        """The place that an id of Happened names, the beginning for "". Raises InvalidInput `events.place`."""
        if not text:
            return cls()
        found = re.fullmatch(PLACE, text)
        if not found:
            raise InvalidInput(
                "events.place",
                f"{text[:80]!r} is no id of an event.",
                "Give the id of the last event that came, or none to have all of them.",
            )
        results, _, _, feed, end = found.groups()
        return cls(id_of(results), id_of(feed) if feed else BEGINNING, bool(end))

    def behind(self, entry: Entry) -> "Place":
        """The place behind an entry."""
        match entry.body:
            case AnswerProgressed():
                return self._replace(feed=entry.id)
            case RunProgressed():
                return self._replace(results=entry.id)
            case RunFinished():
                return self._replace(results=max(self.results, entry.id), over=True)

    def __str__(self) -> str:
        last = "/end" if self.over else f"/{text_of(self.feed)}" if self.feed > BEGINNING else ""
        return text_of(self.results) + last


class Follower:
    """Follows a run, whose `tape` is kept meanwhile, from a place on. `searching` bounds how many search at once."""

    def __init__(
        self, victoria: Victoria, run_id: str, tape: Tape, place: Place, searching: anyio.CapacityLimiter
    ) -> None:
        self._victoria, self._run, self._tape, self._searching = victoria, run_id, tape, searching
        self._client: Any = victoria.client
        self._keys = victoria.keys
        self._place, self._reached = place, place.results
        self._ahead: deque[Entry] = deque()  # results that were read and not given yet
        self._ended: tuple[datetime, RunFinished] | None = None
        self._searched = False

    async def begin(self) -> None:
        """Find the run. Raises InvalidInput `run.unknown`, NotReachable."""
        self._tape.listen()  # before anything is looked at, so that no piece falls in between
        with reachable(self._victoria.url):
            submitted = await self._look()
            self._tape.skip(id_of(await last_id(self._client, self._keys.feed(self._run))))
        self._reached = max(self._reached, (int(submitted.timestamp() * 1000) - SKEW, 0))

    async def next(self) -> list[Happened]:
        """What has happened since, in order and up to the run's end; nothing if nothing has. Raises NotReachable."""
        with reachable(self._victoria.url):
            await self._gather()
            entries = await self._given()
            if not entries and (self._tape.ended or self._tape.end or self._ended):
                return await self._end()
        ends = [number for number, entry in enumerate(entries, 1) if isinstance(entry.body, RunFinished)]
        return [self._happened(entry) for entry in entries[: ends[0] if ends else None]]

    def _happened(self, entry: Entry) -> Happened:
        self._place = self._place.behind(entry)
        return Happened(str(self._place), entry.at, entry.body)

    async def _look(self) -> datetime:
        """When the run was submitted; and its end, if that is there."""
        view: RunView = await self._victoria.view(self._run)
        if view.finished:
            self._ended = view.submitted_at + timedelta(seconds=view.finished.metadata.seconds), view.finished
        return view.submitted_at

    async def _end(self) -> list[Happened]:
        """The run's end from its state, where the results stream does not have it any more behind this place."""
        if not self._ended:
            await self._look()
        if not self._searched:  # it may be there, and not have been read yet
            self._searched = True
            if found := await self._search(self._reached, LATEST):
                self._ahead.extend(found)
                self._reached = found[-1].id
                return await self.next()
        return [self._happened(Entry(self._place.results, *self._ended))] if self._ended else []

    async def _gather(self) -> None:
        """Have all results ahead that there are by now."""
        track = self._tape.results
        while self._reached < (until := track.gone):
            self._ahead.extend(await self._search(self._reached, until))
            self._reached = until
        self._ahead.extend(track.after(self._reached))
        if self._ahead:
            self._reached = max(self._reached, self._ahead[-1].id)

    async def _given(self) -> list[Entry]:
        """What can be given now of the results ahead and of the feed, in the order in which it came."""
        pieces, whole = await self._pieces()
        entries: list[Entry] = []
        while self._ahead and (whole or self._ahead[0].id <= pieces[-1].id):
            entries.append(self._ahead.popleft())
        return sorted([*entries, *pieces], key=lambda entry: entry.id)

    async def _pieces(self) -> tuple[list[Entry], bool]:
        """What comes next on the feed, and whether that is all by now."""
        place, found = self._place.feed, list[Entry]()
        while True:
            track = self._tape.feed or Track(LATEST)  # another one, perhaps, after each wait
            if place >= track.gone:
                return found + track.after(place), True
            until = track.gone
            page = await self._client.xrange(
                self._keys.feed(self._run), min=f"({text_of(place)}", max=text_of(until), count=PAGE
            )
            found += [said.entry for said in (heard(*each) for each in page) if said]
            place = id_of(page[-1][0]) if len(page) == PAGE else until
            if len(found) >= PAGE:
                return found, False

    async def _search(self, after: Id, until: Id) -> list[Entry]:
        """The run's results between two ids. Those of a run that has ended are not looked for long after that."""
        found, mark = list[Entry](), msgspec.json.encode(self._run)
        stream = self._keys.stream(self._keys.of_run(self._run), "results")
        give_up = int(self._ended[0].timestamp() * 1000) + SKEW if self._ended else LATEST[0]
        async with self._searching:
            while True:
                page = await self._client.xrange(stream, min=f"({text_of(after)}", max=text_of(until), count=PAGE)
                likely = [each for each in page if mark in each[1].get(b"event", b"")]
                found += [said.entry for said in (heard(*each) for each in likely) if said and said.run_id == self._run]
                if len(page) < PAGE or (found and isinstance(found[-1].body, RunFinished)):
                    return found
                after = id_of(page[-1][0])
                if not found and after[0] > give_up:
                    return found
