"""Ranges of entries as people write them: `start`, `end`, `:end`, `-N`, `id1:id2`, `@time1:time2`, `@-1h:end`."""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from schemas.errors import InvalidInput

MOST = 2**64 - 1
"""The largest number either part of an id can have."""
MOST_NEWEST = 1_000_000_000
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_ID = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?", re.ASCII)
_AGO = re.compile(rf"-(?=\d)((?:\d{{1,9}}[{''.join(_UNITS)}])+)", re.ASCII)
_DAY = r"\d{4}-\d{2}-\d{2}"
_TIME = re.compile(rf"{_DAY}(?:[T ]\d{{2}}:\d{{2}}(?::\d{{2}}(?:\.\d{{1,6}})?)?(?:Z|[+-]\d{{2}}:\d{{2}})?)?", re.ASCII)
_HINT = "Write start, end, :end, -N, id1:id2, @time1:time2 or @-1h:end; a time is 2026-11-21T10:00, or -90s, -1h, -2d."


class EntryId(NamedTuple):
    """A stream's id: ms since 1970, and a number among those of the same ms."""

    ms: int
    number: int

    @classmethod
    def of(cls, text: str | bytes) -> "EntryId":
        """The id that a server gave."""
        ms, _, number = (text.decode() if isinstance(text, bytes) else text).partition("-")
        return cls(int(ms), int(number))

    def __str__(self) -> str:
        return f"{self.ms}-{self.number}"


FIRST, LAST = EntryId(0, 0), EntryId(MOST, MOST)


class Range(NamedTuple):
    """The entries from `first` to `last`, both included, and of them the `newest` so many only, None for all. One that
    is `open` goes on with what comes."""

    first: EntryId = FIRST
    last: EntryId = LAST
    newest: int | None = None

    @property
    def open(self) -> bool:
        """Whether what comes later belongs to it."""
        return self.last == LAST


NOTHING_YET = Range(newest=0)


def parse(text: str, now: datetime | None = None) -> Range:
    """The range that is written: `start` all there is; `end` nothing of it, only what comes; `-N` the newest N; `ID`
    that one entry; `@TIME` all since then; `A:B` from A to B, an empty side being the start or the end. A `@` in front
    makes both sides times, local ones unless they say otherwise, or spans before `now`.

    Raises InvalidInput with code `range.malformed`, `range.time`, `range.too_large` or `range.reversed`.
    """
    said = text.strip()
    if said in ("", "end"):
        if not said:
            raise _malformed(text)
        return NOTHING_YET
    if said == "start":
        return Range()
    if re.fullmatch(r"-\d+", said, re.ASCII):
        count = int(said[1:]) if len(said) < 20 else MOST_NEWEST + 1
        if not 1 <= count <= MOST_NEWEST:
            raise InvalidInput("range.too_large", f"{text[:80]} is no number of entries.", f"-1 to -{MOST_NEWEST}.")
        return Range(newest=count)
    found = _of_times(said[1:], now or datetime.now(UTC)) if said.startswith("@") else _of_ids(said)
    if found is None:
        raise _malformed(text)
    if found.first > found.last:
        raise InvalidInput("range.reversed", f"{text[:80]!r} ends before it begins.", "Put the earlier one first.")
    return NOTHING_YET if found.first == LAST else found


def _malformed(text: str) -> InvalidInput:
    return InvalidInput("range.malformed", f"{text[:80]!r} is no range.", _HINT)


def _of_ids(said: str) -> Range | None:
    left, colon, right = said.partition(":")
    first, last = _ids(left, FIRST), _ids(right if colon else left, LAST)
    return Range(first[0], last[1]) if first and last and (colon or left) else None


def _ids(side: str, otherwise: EntryId) -> tuple[EntryId, EntryId] | None:
    """The first and the last entry that one side of a range names."""
    if side in ("", "start", "end"):
        place = {"start": FIRST, "end": LAST}.get(side, otherwise)
        return place, place
    found = _ID.fullmatch(side)
    if not found:
        return None
    ms, number = int(found[1]), found[2]
    if max(ms, int(number or 0)) > MOST:
        raise InvalidInput("range.too_large", f"{side} is no id: its numbers have at most 64 bits.", _HINT)
    return (EntryId(ms, int(number or 0)), EntryId(ms, int(number) if number else MOST))


def _of_times(said: str, now: datetime) -> Range | None:
    """Times have colons too: the one between two is where both sides are times. There is never more than one such."""
    if _is_moment(said):
        return Range(_moment(said, now, FIRST)) if said else None
    for colon in re.finditer(":", said):
        left, right = said[: colon.start()], said[colon.end() :]
        if _is_moment(left) and _is_moment(right):
            first, last = _moment(left, now, FIRST), _moment(right, now, LAST)
            return Range(first, last if last == LAST else EntryId(last.ms, MOST))
    return None


def _is_moment(side: str) -> bool:
    return side in ("", "start", "end") or bool(_AGO.fullmatch(side) or _TIME.fullmatch(side))


def _moment(side: str, now: datetime, otherwise: EntryId) -> EntryId:
    """The first id of a moment's ms. Raises InvalidInput `range.time`."""
    if side in ("", "start", "end"):
        return {"start": FIRST, "end": LAST}.get(side, otherwise)
    try:
        if ago := _AGO.fullmatch(side):
            parts = re.findall(r"(\d+)(\D)", ago[1], re.ASCII)
            moment = now - sum((timedelta(**{_UNITS[unit]: int(count)}) for count, unit in parts), timedelta())
        else:
            moment = datetime.fromisoformat(side)
        ms = (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    except (ValueError, OverflowError) as problem:
        raise InvalidInput("range.time", f"{side[:80]} is no time: {problem}.", _HINT) from problem
    return EntryId(max(ms, 0), 0)
