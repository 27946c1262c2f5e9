"""Dates and times as models and people write them, in three languages: what their words say together.

Each word must be understood: what is not is refused, never guessed. `now` says where the clocks are.
"""

import unicodedata
from calendar import monthrange
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, NamedTuple

from msgspec import Meta

from consumers.tools.date_words import DAY, UNKNOWN, YEARS, Item, Place, items_of, places
from schemas.errors import ToolRefused

Written = Annotated[str, Meta(max_length=60)]
"""A date or time as somebody wrote it."""
FORM = "Write a date as 2026-11-23T15:00, or 2026-11-23 for the whole day; `tomorrow 15:00` will do too."

_DATED = {"date", "time", "day", "weekday", "month", "days", "clock"}
"""Kinds of words that speak of a date or time whatever stands beside them."""
_ANY = datetime(2026, 1, 1, tzinfo=UTC)


class Span(NamedTuple):
    """Days, the last one included; minutes after midnight if a time was said."""

    first: date
    last: date
    minutes: int | None = None


def days(text: str, now: datetime) -> Span:
    """The days that are meant: `tomorrow`, `next week`, `2026-11-23`. Raises ToolRefused `date.unclear`."""
    exact = _iso(text.strip(), now)
    if exact is None:
        return _read(text, now)
    day = exact.date() if isinstance(exact, datetime) else exact
    return Span(day, day)


def moment(text: str, now: datetime, day: date | None = None) -> datetime | date:
    """A moment, or a date where no time is said; a time alone is on `day`, by default today.

    Raises ToolRefused `date.unclear`.
    """
    exact = _iso(text.strip(), now)
    if exact is not None:
        return exact
    found = _read(text, now, day)
    if found.minutes is None:
        if found.first != found.last:
            raise _unclear(text, "is more than one day")
        return found.first
    return at(found.first, found.minutes, now)


def stretches(text: str) -> list[tuple[int, int]]:
    """Where a text speaks of dates and times, as (start, end): known words in a row, that surely mean one or are one.

    What they mean is for `moment` and `days` to say, and may be nothing. Fillers around them do not belong to them.
    """
    same = unicodedata.normalize("NFKC", text)
    text = same if len(same) == len(text) else text
    found: list[tuple[int, int]] = []
    row: list[Place] = []
    for place in (*places(text), Place(UNKNOWN, len(text), len(text))):
        if row and not (place.item and not text[row[-1].end : place.start].strip(" ,，")):
            found += _stretch(text, row)
            row = []
        if place.item and (row or "filler" not in place.item):
            row.append(place)
    return found


def _stretch(text: str, row: list["Place"]) -> Iterator[tuple[int, int]]:
    """From the first to the last of these words, if that is a date."""
    while "filler" in row[-1].item:
        row.pop()
    start, end = row[0].start, row[-1].end
    if any(_DATED & place.item.keys() for place in row):
        yield start, end
    elif len(row) > 1:  # a number alone is mostly a number
        with suppress(ToolRefused):
            days(text[start:end], _ANY)
            yield start, end


def at(day: date, minutes: int, now: datetime) -> datetime:
    """A day's moment by the clocks of `now`; a time that these leave out in spring is the one they show instead."""
    wall = datetime.combine(day, time(), now.tzinfo) + timedelta(minutes=minutes)
    return wall.astimezone(UTC).astimezone(now.tzinfo)


def duration(text: str) -> timedelta | None:
    """How long: `45 min`, `1.5 h`, `1 час 30 минут`, `半小时`; None if that is no duration."""
    try:
        said = [values for _, values in _formed(items_of(text), _LENGTHS)]
    except _Unclear:
        return None
    minutes = sum(values.get("number", 1) * values.get("unit", 7 * DAY) for values in said)
    return timedelta(minutes=minutes) if 0 < minutes <= 366 * DAY else None


def shown(when: datetime | date) -> str:
    """A moment or a day as people and models read it: `Mon 2026-11-23 15:00`."""
    day = f"{_NAMES[when.weekday()]} {when:%Y-%m-%d}"
    return f"{day} {when:%H:%M}" if isinstance(when, datetime) else day


_NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def _iso(text: str, now: datetime) -> datetime | date | None:
    """What is written as ISO 8601 has it; None for all else."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            return None
    if found.year not in YEARS:
        raise _unclear(text, "is too far away")
    if isinstance(found, datetime):
        found = found.replace(second=0, microsecond=0)
        return (found if found.tzinfo else found.replace(tzinfo=now.tzinfo)).astimezone(UTC).astimezone(now.tzinfo)
    return found


class _Unclear(Exception):
    """Why a text is no date or time."""


class _Reading:
    """What a text's forms have said so far: each method is a thing to say, its arguments named by FORMS."""

    def __init__(self, now: datetime) -> None:
        self.now, self.today = now, now.date()
        self.span: tuple[date, date] | None = None
        self.minutes: float | None = None
        self.half_of_day: float | None = None
        self.day_of_week: float | None = None

    def _on(self, first: date, last: date | None = None) -> None:
        span = first, last or first
        if self.span not in (None, span):
            raise _Unclear("names two days")
        self.span = span

    def ordinal(self, day: float) -> None:
        """It is on this day since the beginning of the calendar."""
        self._on(date.fromordinal(int(day)))

    def dated(self, month: float, day: float, year: float = 0) -> None:
        """It is on this day of the calendar, without a year on the next one that comes."""
        found = date(int(year or self.today.year), int(month), int(day))
        self._on(found if year or found >= self.today else found.replace(year=found.year + 1))

    def in_month(self, month: float) -> None:
        """It is in this month, or the next one of that name."""
        year = self.today.year + (month < self.today.month)
        self._on(date(year, int(month), 1), date(year, int(month), monthrange(year, int(month))[1]))

    def from_today(self, days: float) -> None:
        """It is so many days from today."""
        self._on(self.today + timedelta(days=days))

    def weekday(self, weekday: float) -> None:
        """It is on the day of this name that the rest speaks of, else on the next one; today is one too."""
        if self.day_of_week not in (None, weekday):
            raise _Unclear("names two days")
        self.day_of_week = weekday

    def in_week(self, weeks: float = 0, weekday: float | None = None, days: float = 10) -> None:
        """It is in the week so many weeks from this one: on a day, or on `days`, coded as in date_words.toml."""
        first, count = (days % 10, days // 10) if weekday is None else (weekday, 1)
        start = self.today + timedelta(weeks=weeks, days=first - self.today.weekday())
        self._on(start, start + timedelta(days=count - 1))

    def later(self, number: float = 1, unit: float = 7 * DAY) -> None:
        """It is so much later than now; after whole days, at no time that was said."""
        minutes = number * unit
        if minutes % DAY:
            then = (self.now.astimezone(UTC) + timedelta(minutes=minutes)).astimezone(self.now.tzinfo)
            self._on(then.date())
            self.clock(then.hour, then.minute)
        else:
            self.from_today(minutes // DAY)

    def clock(self, hours: float = 0, minutes: float = 0, half: float = 0, part: float | None = None) -> None:
        """It is at this time, by a clock of twelve hours where a part of the day is said."""
        at = hours * 60 + minutes + half
        if part is not None and at < 13 * 60:
            at = at % (12 * 60) + part * 60
        if not 0 <= at < DAY:
            raise _Unclear("names no time of a day")
        if self.minutes not in (None, at):
            raise _Unclear("names two times")
        self.minutes = at

    def sometime(self, part: float) -> None:
        """It is in this half of the day."""
        self.half_of_day = part

    def span_and_time(self, day: date | None) -> Span:
        """What was said; a time alone is on `day`, by default today."""
        first, last = self._named_day() or self.span or (day or self.today,) * 2
        if first.year not in YEARS or last.year not in YEARS:
            raise _Unclear("is too far away")
        if self.half_of_day is not None and self.minutes is None:
            raise _Unclear("names no hour")
        if self.minutes is not None and first != last:
            raise _Unclear("names a time, but no day")
        return Span(first, last, None if self.minutes is None else int(self.minutes))

    def _named_day(self) -> tuple[date, date] | None:
        if self.day_of_week is None:
            return None
        first, last = self.span or (self.today, self.today + timedelta(days=6))
        named = first + timedelta(days=(self.day_of_week - first.weekday()) % 7)
        if named > last or (last - first).days > 6:
            raise _Unclear("names two days")
        return named, named


class _Form(NamedTuple):
    """Kinds that stand in a row, and what that says: a method, and which of its arguments each is, "" for none."""

    says: str
    kinds: Sequence[str]
    arguments: Sequence[str]

    def values(self, items: Sequence[Item], place: int) -> dict[str, float] | None:
        """The arguments from the items at a place; None if something else stands there."""
        row = items[place : place + len(self.kinds)]
        if len(row) < len(self.kinds) or not all(kind in item for kind, item in zip(self.kinds, row, strict=True)):
            return None
        given = zip(self.arguments, self.kinds, row, strict=True)
        return {argument: item[kind] for argument, kind, item in given if argument}


def _forms(written: Mapping[str, Sequence[str]]) -> list[_Form]:
    """Forms as they are written below, the longest first."""
    forms: list[_Form] = []
    for says, rows in written.items():
        for row in rows:
            pairs = [word.rpartition("=") for word in row.split()]
            forms.append(_Form(says, [kind for _, _, kind in pairs], [argument for argument, _, _ in pairs]))
    return sorted(forms, key=lambda form: -len(form.kinds))


_FORMS = _forms(
    {
        "ordinal": ["day=date"],
        "dated": [
            "year=number zh_year month=number zh_month day=number",
            "month=number zh_month day=number",
            "day=number month=month year=year",
            "month=month day=number year=year",
            "day=number month=month",
            "month=month day=number",
        ],
        "in_month": ["month=month"],
        "from_today": ["days=day"],
        "weekday": ["weekday=weekday"],
        "in_week": [
            "weeks=week weekday=weekday",
            "weeks=week days=days",
            "days=days",
        ],
        "later": [
            "in number=number unit=unit",
            "in number=number unit=oclock",
            "in number=number days",
            "in unit=unit",
            "in unit=oclock",
            "in unit=half",
            "in days",
            "number=number unit=unit later",
            "unit=half later",
        ],
        "clock": [
            "minutes=time",
            "minutes=time part=part",
            "part=part minutes=time",
            "minutes=clock",
            "hours=hour",
            "hours=number part=part",
            "part=part hours=number",
            "hours=number oclock",
            "hours=number oclock part=part",
            "part=part hours=number oclock",
            "hours=number oclock half=point",
            "part=part hours=number oclock half=point",
            "hours=number oclock minutes=number unit",
            "part=part hours=number oclock minutes=number unit",
        ],
        "sometime": ["part=part"],
    }
)
_LENGTHS = _forms({"": ["number=number unit=unit", "number=number unit=oclock", "number=number days", "unit=half"]})


def _read(text: str, now: datetime, day: date | None = None) -> Span:
    reading = _Reading(now)
    try:
        for form, values in _formed(items_of(text), _FORMS):
            getattr(reading, form.says)(**values)
        return reading.span_and_time(day)
    except (_Unclear, ValueError, OverflowError) as problem:  # such as the 31st of November
        raise _unclear(text, str(problem) if isinstance(problem, _Unclear) else "is in no calendar") from problem


def _formed(items: Sequence[Item], forms: Sequence[_Form]) -> Iterator[tuple[_Form, dict[str, float]]]:
    """The items as forms. Raises _Unclear where one belongs to none, or there are none."""
    if not items:
        raise _Unclear("is no date or time")
    place = 0
    while place < len(items):
        found = next(((form, values) for form in forms if (values := form.values(items, place)) is not None), None)
        if found is None:
            raise _Unclear("is no date or time that can be understood")
        yield found
        place += len(found[0].kinds)


def _unclear(text: str, what: str) -> ToolRefused:
    return ToolRefused("date.unclear", f"{text[:60]!r} {what}.", FORM)
