"""A run as a timeline: what was handled, carried out, asked and called, when, and what came of it."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Literal

import msgspec
from msgspec.structs import replace

from schemas.errors import ErrorInfo
from schemas.plan import RunStatus

Kind = Literal["stage", "step", "model", "tool", "call", "question", "delegation"]
"""What a row is about: a stage handling an event; a step of the plan; a question to a model; a tool; another call of a
stage, by which it looks something up; a question to a person; a work that another agent did."""
Spans = tuple[tuple[int, int], ...]
"""Times from and to, in ms since the run's beginning."""

NAME = 80
"""Characters of a row's name."""
MOST = 10**12
"""No count of tokens or attempts is larger, whatever a file says."""
SHORT, SHARE = 10, 0.01
"""Ms, and the part of a run's time, below which what only keeps the books is of no interest."""


class Cause(msgspec.Struct, frozen=True):
    """The event that made a row, and the row that said it: "" where that came from outside, or is not there."""

    event: str
    type: str
    row: str = ""


class Failed(msgspec.Struct, frozen=True):
    """A handling that failed and was tried again; when, in ms since the run's beginning."""

    attempt: int
    at: int
    error: ErrorInfo


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in a run. Times are ms since the run's beginning, None where they are not known.

    `open` says that nothing of its end was recorded by then. `waits` are when it is known to have waited: put off, for
    an engine, for a person; `working` is for how many ms it is known to have been at work. `attempts` counts its
    handlings. `parent` is the row that it is a part of, `minor` says that it only keeps the books, or that the row
    above it says the same.
    """

    id: str
    parent: str = ""
    kind: Kind
    name: str
    title: str = ""
    start: int | None = None
    end: int | None = None
    open: bool = False
    waits: Spans = ()
    working: int | None = None
    attempts: int | None = None
    tries: tuple[Failed, ...] = ()
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cached: int | None = None
    model: str = ""
    node: str = ""
    expert: str = ""
    cause: Cause | None = None
    status: str = ""
    error: ErrorInfo | None = None
    minor: bool = False

    @property
    def took(self) -> int | None:
        """Ms from its start to its end."""
        return None if self.start is None or self.end is None else max(0, self.end - self.start)

    @property
    def failed(self) -> bool:
        """Whether it came to no good end."""
        return self.status in ("failed", "blocked", "dead")


class Timeline(msgspec.Struct, frozen=True):
    """A run. `began` is when its goal came, None where nothing of it has a time; `end` and `until` are ms since then:
    when it ended, None if it has not, and up to where the timeline goes. Each row's parts follow it, otherwise they are
    in order of time. `missing` and `notes` say what it can't tell."""

    run: str
    goal: str
    status: RunStatus
    method: str
    began: datetime | None
    end: int | None
    until: int
    tokens_in: int
    tokens_out: int
    error: ErrorInfo | None
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    rows: tuple[Row, ...]

    def all(self, kind: Kind) -> list[Row]:
        """The rows of a kind."""
        return [row for row in self.rows if row.kind == kind]

    def depths(self, shown: Collection[str]) -> dict[str, int]:
        """How many of the rows that are shown, by their ids, each row is a part of."""
        found: dict[str, int] = {"": 0}
        for row in self.rows:
            found[row.id] = found[row.parent] + (row.parent in shown)
        return found


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows by when they began, each one's parts right after it."""
    known = {row.id: row for row in rows}
    parts = defaultdict[str, list[Row]](list)
    for row in known.values():
        parts[row.parent if row.parent in known else ""].append(row)
    for each in parts.values():
        each.sort(key=_place)
    found: list[Row] = []
    left = [replace(row, parent="") for row in reversed(parts[""])]
    while left:
        row = left.pop()
        found.append(row)
        left += reversed(parts[row.id])
    return found


def _place(row: Row) -> tuple[bool, int]:
    at = row.end if row.start is None else row.start
    return (at is None, at or 0)


def judged(rows: Sequence[Row], until: int, books: Collection[str]) -> tuple[Row, ...]:
    """The same rows, with what is minor marked: short calls, and short handlings of stages that keep `books`; a step's
    only handling, which took as long as the step; and what has neither length nor parts."""
    parts = defaultdict[str, list[Row]](list)
    for row in rows:
        parts[row.parent].append(row)
    minor: dict[str, bool] = {}
    for row in reversed(rows):  # each one's parts before it
        own = parts[row.id]
        nothing = row.took is None and not own  # it may be open, as a clock is as long as it runs
        if row.failed or row.tries or row.error or row.kind not in ("call", "stage"):
            minor[row.id] = False
        elif row.kind == "call" or row.name in books:
            short = row.took is not None and row.took < max(SHORT, SHARE * until)
            minor[row.id] = nothing or (short and all(minor[part.id] for part in own))
        elif row.parent:
            others = [other for other in parts[row.parent] if other.kind == "stage" and other.name not in books]
            minor[row.id] = others == [row]
        else:
            minor[row.id] = nothing and not row.open
    return tuple(replace(row, minor=minor[row.id]) for row in rows)


def union(spans: Iterable[tuple[int, int]]) -> Spans:
    """The same time, each moment of it once."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if end <= start:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)


def length(spans: Spans) -> int:
    """Ms of all of them."""
    return sum(end - start for start, end in spans)


def counted(number: int) -> int:
    """A number of something, where a file may say any."""
    return min(max(number, 0), MOST)
