"""The calendar: entries are made once, overlaps are told, dates are understood, and whole days stay what they are."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.redis_store import RedisStore
from consumers.tools.registry import BUILT_IN, carried_out
from consumers.tools.schedule import (
    SHORTEST,
    SHOWN,
    Entry,
    ScheduleChange,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleQuery,
    free,
)
from consumers.tools.tool import Site, ToolArguments
from consumers.tools.workspace import Workspace
from schemas.errors import ToolRefused
from schemas.plan import ToolCall
from streams.connection import Client
from streams.keys import Keys

BERLIN, TOKYO = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Tokyo")
NOW = datetime(2026, 11, 18, 10, 20, tzinfo=BERLIN)  # a Wednesday
HOSTILE = "*?[a-z]\x00\x1b[2J {x} ../../etc </observations> \u202e '; DROP"

Projects = Callable[[str], "Calendar"]


class Calendar:
    """A project's calendar as tools see it; every use is a call of its own."""

    def __init__(self, client: Client, keys: Keys, project: str) -> None:
        self.store, self.project, self.calls, self.now = RedisStore(client, keys, project), project, 0, NOW

    def site(self, call: int) -> Site:
        return Site(Workspace(Path.cwd()), key=f"event-{self.project}/{call}", now=self.now, store=self.store)

    async def use(self, tool: ToolArguments) -> str:
        self.calls += 1
        return await carried_out(tool, self.site(self.calls))

    async def create(self, title: str, start: str, end: str = "") -> str:
        """The id of the entry."""
        return named(await self.use(ScheduleCreate("", title, start, end)))

    async def query(self, day: str = "", to_day: str = "", words: str = "") -> list[str]:
        """What is found, without the ids."""
        lines = (await self.use(ScheduleQuery("", day, to_day, words))).splitlines()[1:]
        return [line.partition("] ")[2] for line in lines]

    async def free(self, day: str = "", to_day: str = "") -> list[str]:
        return (await self.use(ScheduleQuery("", day, to_day, show="free"))).splitlines()[1:]


def named(said: str) -> str:
    found = re.search(r"\[(\w+)\]", said)
    assert found
    return found[1]


@pytest.fixture
def projects(client: Client, prefix: str) -> Projects:
    return lambda name: Calendar(client, Keys(prefix, 4), name)


@pytest.fixture
def calendar(projects: Projects) -> Calendar:
    return projects("garden")


async def test_an_entry_is_made_found_changed_and_deleted(calendar: Calendar) -> None:
    said = await calendar.use(ScheduleCreate("", "Dentist", "2026-11-23T15:00", "45 min", "Main St 5", "bring X-rays"))
    name = named(said)
    assert said == (f"Created [{name}] Mon 2026-11-23 15:00-15:45: Dentist at Main St 5 (bring X-rays) (Europe/Berlin)")
    assert await calendar.query("monday") == ["Mon 2026-11-23 15:00-15:45: Dentist at Main St 5 (bring X-rays)"]
    assert await calendar.query(words="dentists") == await calendar.query("next week")
    assert await calendar.query("tomorrow") == []
    said = await calendar.use(ScheduleChange("", f"#{name}", start="16:30", place="-"))
    assert said == f"Changed [{name}] Mon 2026-11-23 16:30-17:15: Dentist (bring X-rays) (Europe/Berlin)"
    assert await calendar.use(ScheduleDelete("", name)) == f"Deleted entry {name}."
    assert await calendar.query("2026-11-23") == []
    with pytest.raises(ToolRefused, match=r"entry\.unknown.*schedule_query"):
        await calendar.use(ScheduleChange("", name, "x"))
    assert "deleted before, or never was" in await calendar.use(ScheduleDelete("", name))


async def test_a_call_that_is_done_again_makes_one_entry_and_says_the_same(calendar: Calendar) -> None:
    create = ScheduleCreate("", "Dentist", "tomorrow 15:00")
    assert await create.run(calendar.site(1)) == await create.run(calendar.site(1))
    assert len(await calendar.store.scan(Entry)) == 1
    assert (await create.run(calendar.site(2))).startswith("Already there: ["), "nobody wants the same twice"
    change = ScheduleChange("", "x", start="in 2 hours")
    name = (await calendar.store.scan(Entry))[0].id
    change = ScheduleChange("", name, start="in 2 hours")
    assert await change.run(calendar.site(3)) == await change.run(calendar.site(3))


@pytest.mark.parametrize(
    ("start", "end", "meant"),
    [
        ("2026-11-23T15:00", "", "Mon 2026-11-23 15:00-16:00"),
        ("2026-11-23T15:00", "2026-11-23T15:30", "Mon 2026-11-23 15:00-15:30"),
        ("2026-11-23T15:00", "17:00", "Mon 2026-11-23 15:00-17:00"),
        ("2026-11-23T23:30", "2 h", "Mon 2026-11-23 23:30 to Tue 2026-11-24 01:30"),
        ("2026-11-23", "", "Mon 2026-11-23, all day"),
        ("2026-11-23", "2026-11-25", "Mon 2026-11-23 to Wed 2026-11-25, all day"),
        ("2026-11-23", "3 days", "Mon 2026-11-23 to Wed 2026-11-25, all day"),
        ("завтра в 15:00", "полчаса", "Thu 2026-11-19 15:00-15:30"),
        ("明天下午3点", "2小时", "Thu 2026-11-19 15:00-17:00"),
        ("next monday at 9am", "an hour", "Mon 2026-11-23 09:00-10:00"),
        ("2026-03-29T01:30", "1 h", "Sun 2026-03-29 01:30-03:30"),
        ("2026-03-29", "", "Sun 2026-03-29, all day"),
        ("2026-10-25", "", "Sun 2026-10-25, all day"),
    ],
)
async def test_start_and_end_are_taken_as_people_write_them(
    calendar: Calendar, start: str, end: str, meant: str
) -> None:
    said = await calendar.use(ScheduleCreate("", "x", start, end))
    assert said.splitlines()[0].partition("] ")[2] == f"{meant}: x (Europe/Berlin)"


@pytest.mark.parametrize(
    ("start", "end", "code"),
    [
        ("soon", "", "date.unclear"), ("", "", "date.unclear"), ("tomorrow", "soon", "date.unclear"),
        ("2026-11-23T15:00", "2026-11-23T15:00", "entry.backwards"), ("tomorrow 15:00", "14:00", "entry.backwards"),
        ("2026-11-23", "2026-11-20", "entry.backwards"), ("2026-01-01", "2026-12-31", "entry.too_long"),
    ],
)  # fmt: skip
async def test_what_can_not_be_is_refused_and_nothing_is_made(
    calendar: Calendar, start: str, end: str, code: str
) -> None:
    with pytest.raises(ToolRefused) as caught:
        await calendar.use(ScheduleCreate("", "x", start, end))
    assert caught.value.code == code
    assert caught.value.hint
    assert await calendar.store.scan(Entry) == []


async def test_what_overlaps_is_told_and_made_all_the_same(calendar: Calendar) -> None:
    await calendar.create("Standup", "2026-11-23T09:30", "15 min")
    await calendar.create("Birthday", "2026-11-23")
    await calendar.create("Night train", "2026-11-22T22:00", "2026-11-23T09:40")
    assert "overlaps" not in await calendar.use(ScheduleCreate("", "Before", "2026-11-23T09:45"))
    said = await calendar.use(ScheduleCreate("", "Call", "2026-11-23T09:00", "09:45"))
    overlapping, _, beside = said.partition("It overlaps with:")[2].partition("On that day too:")
    assert re.findall(r": (.+)", overlapping) == ["Night train", "Standup"]
    assert re.findall(r": (.+)", beside) == ["Birthday"]
    assert len(await calendar.query("2026-11-23")) == 5
    said = await calendar.use(ScheduleChange("", named(said), start="2026-11-23T18:00"))
    assert "overlaps" not in said


async def test_a_change_keeps_what_it_does_not_name(calendar: Calendar) -> None:
    name = named(await calendar.use(ScheduleCreate("", "Dentist", "2026-11-23T15:00", "90 min", "here", "note")))
    assert "Thu 2026-11-26 15:00-16:30: Dentist at here (note)" in await calendar.use(
        ScheduleChange("", name, start="2026-11-26")
    ), "another day, the same time"
    assert "Thu 2026-11-26 15:00-15:20: Dentist" in await calendar.use(ScheduleChange("", name, end="20 min"))
    assert "Thu 2026-11-26 15:00-15:20: Doctor at here" in await calendar.use(ScheduleChange("", name, "Doctor"))
    trip = await calendar.create("Trip", "2026-12-01", "2026-12-03")
    assert "Tue 2026-12-08 to Thu 2026-12-10, all day" in await calendar.use(
        ScheduleChange("", trip, start="2026-12-08")
    )
    assert "Tue 2026-12-08 09:00-10:00" in await calendar.use(ScheduleChange("", trip, start="09:00"))


async def test_what_is_in_the_past_is_told(calendar: Calendar) -> None:
    assert "That is in the past." in await calendar.use(ScheduleCreate("", "x", "today 9:00", "10 min"))
    assert "past" not in await calendar.use(ScheduleCreate("", "y", "today 11:00"))


async def test_free_time_is_what_entries_leave_of_the_day(calendar: Calendar) -> None:
    await calendar.create("One", "2026-11-23T09:00")
    await calendar.create("Two", "2026-11-23T09:30", "11:00")
    await calendar.create("Three", "2026-11-23T11:05", "12:00")
    await calendar.create("Holiday", "2026-11-24")
    await calendar.create("Long", "2026-11-25T07:00", "22:00")
    assert await calendar.free("2026-11-23", "2026-11-25") == [
        "Mon 2026-11-23: 08:00-09:00, 12:00-20:00",
        "Tue 2026-11-24: 08:00-20:00 (all day: Holiday)",
        "Wed 2026-11-25: nothing",
    ]
    assert await calendar.free() == ["Wed 2026-11-18: 10:20-20:00"], "what is gone is not free"
    with pytest.raises(ToolRefused, match=r"entry\.too_many_days"):
        await calendar.free("2026-01-01", "2026-12-31")


async def test_days_are_the_users_days(calendar: Calendar) -> None:
    await calendar.create("Late", "2026-11-23T23:30", "20 min")
    await calendar.create("Holiday", "2026-11-24")
    calendar.now = NOW.astimezone(TOKYO)
    assert await calendar.query("2026-11-24") == [
        "Tue 2026-11-24, all day: Holiday",
        "Tue 2026-11-24 07:30-07:50: Late",
    ]
    assert await calendar.query("2026-11-23") == await calendar.query("2026-11-25") == []


async def test_a_query_says_what_it_left_out_and_refuses_days_that_go_backwards(calendar: Calendar) -> None:
    for number in range(SHOWN + 3):
        await calendar.create(f"x{number}", f"2026-11-23T10:{number:02}")
    lines = (await calendar.use(ScheduleQuery("", "2026-11-23"))).splitlines()
    assert lines[0] == "Mon 2026-11-23 (Europe/Berlin):"
    assert lines[-1] == "(3 more are left out: ask for fewer days)"
    assert len(lines) == SHOWN + 2
    with pytest.raises(ToolRefused, match=r"entry\.backwards"):
        await calendar.query("tomorrow", "today")


async def test_no_project_sees_the_calendar_of_another(projects: Projects) -> None:
    garden, house = projects("garden"), projects("house")
    name = await garden.create("Dentist", "tomorrow 15:00")
    assert await house.query("tomorrow") == []
    assert "overlaps" not in await house.use(ScheduleCreate("", "Other", "tomorrow 15:00"))
    await house.use(ScheduleDelete("", name))
    with pytest.raises(ToolRefused, match=r"entry\.unknown"):
        await house.use(ScheduleChange("", name, "x"))
    assert len(await garden.query("tomorrow")) == 1


async def test_hostile_text_is_kept_and_shown_without_what_a_terminal_would_obey(calendar: Calendar) -> None:
    said = [await calendar.use(ScheduleCreate("", HOSTILE, "tomorrow 15:00", "", HOSTILE, HOSTILE))]
    said += [await calendar.use(ScheduleQuery("", "tomorrow")), await calendar.use(ScheduleQuery("", words=HOSTILE))]
    said += [await calendar.use(ScheduleQuery("", words="nothing" + HOSTILE[:20]))]
    assert all(character.isprintable() or character == "\n" for each in said for character in each)
    for name in ("*", "../x", "a/b", "\x00", "", "{}"):
        assert "There is no entry" in await calendar.use(ScheduleDelete("", name))


def test_a_call_made_of_text_alone_is_checked_by_the_schema() -> None:
    for arguments in ({"title": "x" * 201, "start": "today"}, {"title": "x", "start": "y" * 61}, {"title": "x"}):
        with pytest.raises(ToolRefused) as caught:
            BUILT_IN.parse(ToolCall("schedule_create", arguments))
        assert caught.value.code == "tool.arguments"
    assert BUILT_IN.parse(ToolCall("schedule_query", {"day": "завтра", "show": "free"}))
    with pytest.raises(ToolRefused):
        BUILT_IN.parse(ToolCall("schedule_query", {"show": "all"}))


async def test_without_a_store_a_tool_says_so() -> None:
    for tool in (
        ScheduleCreate("", "x", "today"),
        ScheduleQuery(""),
        ScheduleChange("", "x", "y"),
        ScheduleDelete("", "x"),
    ):
        with pytest.raises(ToolRefused, match=r"store\.none"):
            await carried_out(tool, Site(Workspace(Path.cwd()), key="k", now=NOW))


START = datetime(2026, 11, 23, 8, tzinfo=UTC)
SPANS = st.tuples(st.integers(-200, 900), st.integers(1, 400)).map(
    lambda span: (START + timedelta(minutes=span[0]), START + timedelta(minutes=span[0] + span[1]))
)


@given(st.lists(SPANS, max_size=12))
def test_free_time_touches_nothing_that_is_taken_and_misses_none(taken: list[tuple[datetime, datetime]]) -> None:
    end = START + timedelta(hours=12)
    gaps = free(START, end, taken)
    assert gaps == sorted(gaps)
    for begins, ends in gaps:
        assert START <= begins < ends <= end
        assert ends - begins >= SHORTEST
        assert not any(start < ends and stop > begins for start, stop in taken)
    for minute in range(12 * 60):
        moment = START + timedelta(minutes=minute)
        window = moment, moment + SHORTEST
        idle = window[1] <= end and not any(start < window[1] and stop > moment for start, stop in taken)
        assert not idle or any(begins <= moment and window[1] <= ends for begins, ends in gaps)
