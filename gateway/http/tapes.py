"""What has happened lately, in memory and by run, so that many can follow runs without each reading the streams."""

from collections import deque
from datetime import datetime
from itertools import takewhile
from typing import NamedTuple

import anyio

from schemas.events import AnswerProgressed, RunFinished, RunProgressed
from streams.keys import Keys

Id = tuple[int, int]
"""An entry's id: milliseconds since 1970 by the server's clock, and a number among those of the same millisecond."""
BEGINNING: Id = (0, 0)

ENTRIES, BYTES = 50_000, 16 * 1024 * 1024
"""What is kept in memory of all runs together, `BYTES` as they came: as objects they take some three times as much."""


class Entry(NamedTuple):
    """One thing that happened to a run."""

    id: Id
    at: datetime
    body: RunProgressed | AnswerProgressed | RunFinished


class Track:
    """A run's entries of one stream, in order: all of them after `gone` and up to `read`. Earlier ones are on the
    server only."""

    def __init__(self, gone: Id) -> None:
        self.gone = self.read = gone
        self.entries: deque[Entry] = deque()

    def after(self, place: Id) -> list[Entry]:
        """The entries after an id."""
        newer = [*takewhile(lambda entry: entry.id > place, reversed(self.entries))]
        newer.reverse()
        return newer


class Tape:
    """What is known of one run. Its `feed` is there while somebody listens to it.

    `ended` says that the run has, but not how: its end was trimmed before it could be read.
    """

    def __init__(self, gone: Id) -> None:
        self.results = Track(gone)
        self.feed: Track | None = None
        self.followers = self.listeners = 0
        self.ended = False
        self.changed = anyio.Event()

    @property
    def end(self) -> RunFinished | None:
        """The run's end, if that is in memory."""
        last = self.results.entries[-1].body if self.results.entries else None
        return last if isinstance(last, RunFinished) else None

    def listen(self) -> None:
        """Keep what comes on the feed from now on."""
        if self.feed is None:
            self.feed = Track(BEGINNING)

    def skip(self, place: Id) -> None:
        """Don't read what the feed has up to an id: who wants that asks the server."""
        if self.feed and self.feed.read < place:
            self.hush()
            self.feed = Track(place)

    def hush(self) -> None:
        """Forget the feed: nobody listens any more."""
        if self.feed:
            self.feed.entries.clear()
            self.feed = None

    def wake(self) -> None:
        """Let all who wait for a change look."""
        self.changed.set()
        self.changed = anyio.Event()


class Tapes:
    """The tapes of all runs that somebody follows, or of which something is in memory."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._gone = dict.fromkeys(keys.of_stream("results"), BEGINNING)
        self.followed: dict[str, dict[str, Tape]] = {partition: {} for partition in self._gone}
        self._tapes: dict[str, Tape] = {}
        self._kept: deque[tuple[str, Track, int]] = deque()
        self._size = 0

    def begin(self, partition: str, place: Id) -> None:
        """Say after which id results are read."""
        self._gone[partition] = place

    def enter(self, run_id: str) -> Tape:
        """The tape of a run for one more who follows it, until `leave`."""
        tape = self.followed[self._keys.of_run(run_id)][run_id] = self._of(run_id)
        tape.followers += 1
        return tape

    def leave(self, run_id: str) -> None:
        """One who followed a run does not any more."""
        tape = self._tapes[run_id]
        tape.followers -= 1
        if not tape.followers:
            del self.followed[self._keys.of_run(run_id)][run_id]
            self._forget(run_id, tape)

    def result(self, run_id: str, entry: Entry, size: int) -> None:
        """Keep what came of a run on the results stream, with `size` bytes."""
        self.keep(run_id, self._of(run_id).results, entry, size)

    def keep(self, run_id: str, track: Track, entry: Entry, size: int) -> None:
        """Put an entry on a track of a run; what is oldest of all goes where there is too much."""
        track.entries.append(entry)
        track.read = entry.id
        self._kept.append((run_id, track, size))
        self._size += size
        while self._size > BYTES or len(self._kept) > ENTRIES:
            self._drop(*self._kept.popleft())

    def wake(self) -> None:
        """Let all who wait for anything look."""
        for followed in self.followed.values():
            for tape in followed.values():
                tape.wake()

    def _of(self, run_id: str) -> Tape:
        tape = self._tapes.get(run_id)
        if tape is None:
            tape = self._tapes[run_id] = Tape(self._gone[self._keys.of_run(run_id)])
        return tape

    def _drop(self, run_id: str, track: Track, size: int) -> None:
        self._size -= size
        if track.entries:  # a feed that nobody listens to any more has none
            track.gone = track.entries.popleft().id
            tape = self._tapes[run_id]
            if track is tape.results:
                self._gone[self._keys.of_run(run_id)] = track.gone
                self._forget(run_id, tape)

    def _forget(self, run_id: str, tape: Tape) -> None:
        if not (tape.followers or tape.results.entries):
            del self._tapes[run_id]
