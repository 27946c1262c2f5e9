"""`schedule_*`: a project's calendar."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, ClassVar, Literal

from anyio import to_thread
from msgspec import Meta
from msgspec.structs import replace

from consumers.store import Record
from consumers.tools import dates
from consumers.tools.dates import Written
from consumers.tools.matching import ranked
from consumers.tools.memo import bare
from consumers.tools.plain import plain
from consumers.tools.tool import Look, Site, ToolArguments
from schemas.errors import ToolRefused
from streams.stage import Effects

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LONGEST = timedelta(days=31)
"""Of an entry: what looks for entries of a time looks so far back."""
FIRST, LAST = 8 * 60, 20 * 60
"""Minutes after midnight between which free time is looked for."""
SHORTEST = timedelta(minutes=15)
"""Free time that is worth telling."""
SHOWN, FREE_DAYS, AHEAD = 40, 14, timedelta(days=366)
"""How many entries are shown, of how many days what is free, and how far ahead words are looked for."""

Title = Annotated[str, Meta(min_length=1, max_length=200)]
Place = Annotated[str, Meta(max_length=200)]
Notes = Annotated[str, Meta(max_length=1_000)]
EntryId = Annotated[str, Meta(max_length=40)]


class Entry(Record, frozen=True):
    """An entry from `at` until `end`. One for whole days begins and ends at midnight where its days are."""

    collection: ClassVar[str] = "entries"
    most: ClassVar[int] = 20_000

    title: str
    end: datetime
    whole: bool = False
    place: str = ""
    notes: str = ""


class _Schedule(ToolArguments, frozen=True):
    """What the tools for the calendar have in common: only experts that name them have them."""

    capability: ClassVar[str] = "calendar"
    general: ClassVar[bool] = False
    look: ClassVar[Look] = Look("Calendar", "listing")


class ScheduleCreate(_Schedule, frozen=True, tag="schedule_create"):
    """Put an entry into the calendar. `start` is as 2026-11-23T15:00, or 2026-11-23 for a whole day; `end` as that, as
    16:30, or as 45 min; without it, it takes an hour."""

    description: ClassVar[str] = "put an entry into the calendar; start as 2026-11-23T15:00, end likewise or as 45 min"
    effects: ClassVar[Effects] = "repeat"
    commands: ClassVar[tuple[str, ...]] = ("/schedule TITLE START",)

    title: Title
    start: Written
    end: Written = ""
    place: Place = ""
    notes: Notes = ""

    async def run(self, site: Site) -> str:
        """The entry, and what it overlaps. Raises ToolRefused `date.unclear`, `entry.*`, `store.*`."""
        title = " ".join(self.title.split())
        if not title:
            raise ToolRefused("entry.empty", "The entry has no title.", "Give a few words as title.")
        start, end, whole = _times(self.start, self.end, site.now)
        entry = Entry(
            id=site.new_id,
            at=start,
            end=end,
            whole=whole,
            title=title,
            place=self.place.strip(),
            notes=self.notes.strip(),
        )
        for other in await site.records.scan(Entry, start, start + timedelta(milliseconds=1)):
            if (other.title, other.at, other.end) == (title, start, end) and other.id != entry.id:
                return await _told("Already there:", other, site)
        await site.records.add(entry)  # it is there already where the same call is done again
        return await _told("Created", entry, site)


class ScheduleQuery(_Schedule, frozen=True, tag="schedule_query"):
    """What is in the calendar from `day` to `to_day`, a date or as tomorrow or next week; with `words`, what has them;
    with `show` free, when nothing is."""

    description: ClassVar[str] = (
        "what the calendar has from day to to_day, or with words; show free: which time is free"
    )
    commands: ClassVar[tuple[str, ...]] = ("/calendar DAY",)

    day: Written = ""
    to_day: Written = ""
    words: Annotated[str, Meta(max_length=200)] = ""
    show: Literal["entries", "free"] = "entries"

    async def run(self, site: Site) -> str:
        """One entry a line, or one day with its free times. Raises ToolRefused `date.unclear`, `entry.*`, `store.*`."""
        first, last = self._days(site.now)
        if last < first:
            raise ToolRefused("entry.backwards", f"{last} is before {first}.", "Give the earlier day as day.")
        if self.show == "free":
            return await _free(first, last, site)
        entries = await _between(first, last, site)
        if self.words:
            titles = [f"{entry.title}\n{entry.place}\n{entry.notes}" for entry in entries]
            entries = [entries[index] for index in await to_thread.run_sync(ranked, self.words, titles)]
        when = dates.shown(first) + (f" to {dates.shown(last)}" if last != first else "")
        if not entries:
            about = f" about {plain(self.words)}" if self.words else ""
            return f"Nothing{about} is in the calendar: {when} ({_zone(site.now)})."
        lines = [f"{when} ({_zone(site.now)}):", *(_line(entry, site.now) for entry in entries[:SHOWN])]
        if len(entries) > SHOWN:
            lines.append(f"({len(entries) - SHOWN:,} more are left out: ask for fewer days)")
        return "\n".join(lines)

    def _days(self, now: datetime) -> tuple[date, date]:
        today = now.date()
        first, last, _ = dates.days(self.day, now) if self.day.strip() else (today, today, None)
        if self.to_day.strip():
            last = dates.days(self.to_day, now).last
        elif self.words and not self.day.strip():
            last = today + AHEAD
        return first, last


class ScheduleChange(_Schedule, frozen=True, tag="schedule_change"):
    """Change the entry with an id: what is left empty stays as it is, and - empties a place or notes. An entry that
    starts at another time takes as long as before."""

    description: ClassVar[str] = "change an entry, by its id; what is left empty stays, - empties place or notes"
    effects: ClassVar[Effects] = "repeat"

    id: EntryId
    title: Annotated[str, Meta(max_length=200)] = ""
    start: Written = ""
    end: Written = ""
    place: Place = ""
    notes: Notes = ""

    async def run(self, site: Site) -> str:
        """The entry as it is now, and what it overlaps. Raises ToolRefused `date.unclear`, `entry.*`, `store.*`."""
        given = bare(self.id)
        earlier = await site.records.read(Entry, given)
        if earlier is None:
            raise _unknown(given)
        start, end, whole = _moved(earlier, self.start, self.end, site.now)
        entry = replace(
            earlier,
            at=start,
            end=end,
            whole=whole,
            title=" ".join(self.title.split()) or earlier.title,
            place=_changed(earlier.place, self.place),
            notes=_changed(earlier.notes, self.notes),
        )
        if not await site.records.replace(entry):
            raise _unknown(given)
        return await _told("Changed", entry, site)


class ScheduleDelete(_Schedule, frozen=True, tag="schedule_delete"):
    """Take one entry out of the calendar."""

    description: ClassVar[str] = "take an entry out of the calendar, by its id"
    effects: ClassVar[Effects] = "repeat"

    id: EntryId

    async def run(self, site: Site) -> str:
        """What was done; an entry that is not there is no error: this may be the second time. Raises `store.*`."""
        given = bare(self.id)
        if await site.records.remove(Entry, given):
            return f"Deleted entry {given}."
        return f"There is no entry {plain(given)!r} now: it was deleted before, or never was."


def _times(start: str, end: str, now: datetime, day: date | None = None) -> tuple[datetime, datetime, bool]:
    """When an entry begins and ends, and whether it is one of whole days."""
    first = dates.moment(start, now, day)
    whole = not isinstance(first, datetime)
    on = first.date() if isinstance(first, datetime) else first
    begins = first if isinstance(first, datetime) else dates.at(first, 0, now)
    length = dates.duration(end) if end.strip() else DAY if whole else HOUR
    if length is not None:
        ends = begins + length if whole else _after(begins, length)
    else:
        last = dates.moment(end, now, on)
        ends = last if isinstance(last, datetime) else dates.at(last + DAY, 0, now)
    if ends <= begins:
        raise ToolRefused("entry.backwards", "It would end before it begins.", "Give an end behind the start.")
    if ends - begins > LONGEST:
        raise ToolRefused(
            "entry.too_long", f"It would take more than {LONGEST.days} days.", "Make an entry for its beginning."
        )
    return begins, ends, whole and ends == dates.at(ends.date(), 0, now)


def _moved(entry: Entry, start: str, end: str, now: datetime) -> tuple[datetime, datetime, bool]:
    """An entry's times after what a change says about them."""
    here = _local(entry, now)
    if not (start.strip() or end.strip()):
        return entry.at, entry.end, entry.whole
    if not start.strip():
        begins = f"{here.at:%Y-%m-%d}" if entry.whole else f"{here.at:%Y-%m-%dT%H:%M}"
        return _times(begins, end, now)
    begins, ends, whole = _times(start, end, now, here.at.date())
    if not end.strip():
        if whole and not entry.whole:  # only its day was said
            minutes = here.at.hour * 60 + here.at.minute
            begins, whole = dates.at(begins.date(), minutes, now), False
        if whole == entry.whole:
            ends = begins + (here.end - here.at) if whole else _after(begins, here.end - here.at)
    return begins, ends, whole


def _after(begins: datetime, length: timedelta) -> datetime:
    """What the clocks show so much later."""
    return (begins.astimezone(UTC) + length).astimezone(begins.tzinfo)


def _local(entry: Entry, now: datetime) -> Entry:
    """An entry with its times by the clocks of `now`; whole days stay the days they are, wherever one is."""
    if entry.whole:
        first, last = entry.at.date(), entry.end.date()
        return replace(entry, at=dates.at(first, 0, now), end=dates.at(last, 0, now))
    return replace(entry, at=entry.at.astimezone(now.tzinfo), end=entry.end.astimezone(now.tzinfo))


async def _between(first: date, last: date, site: Site) -> list[Entry]:
    """The entries of some days, by the user's clocks, the earliest first."""
    begins, ends = dates.at(first, 0, site.now), dates.at(last + DAY, 0, site.now)
    # A day more on both sides: whole days may have been entered where the clocks are others.
    found = await site.records.scan(Entry, begins - LONGEST - DAY, ends + DAY)
    entries = [_local(entry, site.now) for entry in found]
    return sorted((e for e in entries if e.at < ends and e.end > begins), key=lambda entry: (entry.at, not entry.whole))


async def _told(what: str, entry: Entry, site: Site) -> str:
    """What was done to an entry, and what a person would want to know of it."""
    here = _local(entry, site.now)
    lines = [f"{what} {_line(here, site.now)} ({_zone(site.now)})"]
    if here.end <= site.now:
        lines.append("That is in the past.")
    others = [
        other
        for other in await _between(here.at.date(), _last_day(here), site)
        if other.id != here.id and other.at < here.end and other.end > here.at
    ]
    if overlapping := [_line(other, site.now) for other in others if other.whole == here.whole]:
        lines += ["It overlaps with:", *overlapping[:SHOWN]]
    if beside := [_line(other, site.now) for other in others if other.whole != here.whole]:
        lines += ["On that day too:", *beside[:SHOWN]]
    return "\n".join(lines)


async def _free(first: date, last: date, site: Site) -> str:
    """The free times of some days, one day a line."""
    if (last - first).days >= FREE_DAYS:
        raise ToolRefused(
            "entry.too_many_days", f"These are more than {FREE_DAYS} days.", f"Ask for {FREE_DAYS} days at most."
        )
    entries = await _between(first, last, site)
    lines = [f"Free between {_clock(FIRST)} and {_clock(LAST)} ({_zone(site.now)}):"]
    for number in range((last - first).days + 1):
        day = first + number * DAY
        begins, ends = dates.at(day, FIRST, site.now), dates.at(day, LAST, site.now)
        gaps = free(max(begins, site.now), ends, [(e.at, e.end) for e in entries if not e.whole])
        said = ", ".join(f"{start:%H:%M}-{end:%H:%M}" for start, end in gaps) or "nothing"
        whole = [e.title for e in entries if e.whole and e.at <= begins < e.end]
        lines.append(f"{dates.shown(day)}: {said}" + (f" (all day: {plain(', '.join(whole))})" if whole else ""))
    return "\n".join(lines)


def free(
    begins: datetime, ends: datetime, taken: Sequence[tuple[datetime, datetime]]
) -> list[tuple[datetime, datetime]]:
    """What `taken` leaves of a time, in its order; what is shorter than SHORTEST is left out."""
    gaps: list[tuple[datetime, datetime]] = []
    for start, end in [*sorted(taken), (ends, ends)]:
        until = min(start, ends)
        if until - begins >= SHORTEST:
            gaps.append((begins, until))
        begins = max(begins, end)
    return gaps


def _line(entry: Entry, now: datetime) -> str:
    """An entry on a line, its times by the clocks of `now`."""
    parts = [f"[{entry.id}] {_when(_local(entry, now))}: {plain(entry.title)}"]
    parts += [f"at {plain(entry.place)}"] if entry.place else []
    parts += [f"({plain(' '.join(entry.notes.split())[:200])})"] if entry.notes else []
    return " ".join(parts)


def _when(entry: Entry) -> str:
    if entry.whole:
        last = _last_day(entry)
        return f"{dates.shown(entry.at.date())}{f' to {dates.shown(last)}' if last != entry.at.date() else ''}, all day"
    same = entry.end.date() == entry.at.date()
    return f"{dates.shown(entry.at)}{'-' + f'{entry.end:%H:%M}' if same else f' to {dates.shown(entry.end)}'}"


def _last_day(entry: Entry) -> date:
    return (entry.end - timedelta(minutes=1)).date()


def _changed(earlier: str, given: str) -> str:
    return "" if given.strip() == "-" else given.strip() or earlier


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _zone(now: datetime) -> str:
    return str(now.tzinfo)


def _unknown(given: str) -> ToolRefused:
    return ToolRefused("entry.unknown", f"There is no entry {given!r}.", "schedule_query gives the ids.")
