"""Dates and times are understood as people and models write them, in three languages; what is unclear is refused."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.tools.dates import YEARS, at, days, duration, moment, shown
from schemas.errors import ToolRefused

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 18, 10, 20, 30, tzinfo=BERLIN)  # a Wednesday


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-23T15:00", "Mon 2026-11-23 15:00"),
        (" 2026-11-23t15:00:59 ", "Mon 2026-11-23 15:00"),
        ("2026-11-23 9:05", "Mon 2026-11-23 09:05"),
        ("2026-11-3, 9:05", "Tue 2026-11-03 09:05"),
        ("2026-11-23T15:00Z", "Mon 2026-11-23 16:00"),
        ("2026-11-23T15:00+08:00", "Mon 2026-11-23 08:00"),
        ("2026-11-23", "Mon 2026-11-23"),
        ("2026/11/23", "Mon 2026-11-23"),
        ("23.11.2026 15:00", "Mon 2026-11-23 15:00"),
        ("15:00", "Wed 2026-11-18 15:00"),
        ("1５：00", "Wed 2026-11-18 15:00"),
        ("at 17", "Wed 2026-11-18 17:00"),
        # English
        ("today", "Wed 2026-11-18"),
        ("Tomorrow at 3pm", "Thu 2026-11-19 15:00"),
        ("3:30 PM tomorrow", "Thu 2026-11-19 15:30"),
        ("the day after tomorrow, 9 am", "Fri 2026-11-20 09:00"),
        ("tonight at 8", "Wed 2026-11-18 20:00"),
        ("wednesday", "Wed 2026-11-18"),
        ("Tuesday 10:00", "Tue 2026-11-24 10:00"),
        ("next monday", "Mon 2026-11-23"),
        ("next friday", "Fri 2026-11-27"),
        ("monday next week", "Mon 2026-11-23"),
        ("Mon 2026-11-23 15:00", "Mon 2026-11-23 15:00"),
        ("Monday, 23 November at 15:00", "Mon 2026-11-23 15:00"),
        ("friday at noon", "Fri 2026-11-20 12:00"),
        ("12 am", "Wed 2026-11-18 00:00"),
        ("12pm", "Wed 2026-11-18 12:00"),
        ("November 23rd at 17:30", "Mon 2026-11-23 17:30"),
        ("1 November", "Mon 2027-11-01"),
        ("23 Nov 2028", "Thu 2028-11-23"),
        ("in 2 hours", "Wed 2026-11-18 12:20"),
        ("in half an hour", "Wed 2026-11-18 10:50"),
        ("in three days at 9:00", "Sat 2026-11-21 09:00"),
        ("in a week", "Wed 2026-11-25"),
        # Russian
        ("завтра в 15:00", "Thu 2026-11-19 15:00"),
        ("завтра в 3 часа дня", "Thu 2026-11-19 15:00"),
        ("послезавтра утром в 9", "Fri 2026-11-20 09:00"),
        ("во вторник в 10 утра", "Tue 2026-11-24 10:00"),
        ("в следующую пятницу", "Fri 2026-11-27"),
        ("23 ноября 2027 в 9:00", "Tue 2027-11-23 09:00"),
        ("через 3 дня", "Sat 2026-11-21"),
        ("через два часа", "Wed 2026-11-18 12:20"),
        ("через неделю в 12:00", "Wed 2026-11-25 12:00"),
        ("сегодня вечером в 8", "Wed 2026-11-18 20:00"),
        # Chinese
        ("明天下午3点", "Thu 2026-11-19 15:00"),
        ("明天下午三点半", "Thu 2026-11-19 15:30"),
        ("后天上午10点15分", "Fri 2026-11-20 10:15"),
        ("下周一上午十点", "Mon 2026-11-23 10:00"),
        ("周五15:00", "Fri 2026-11-20 15:00"),
        ("今晚8点", "Wed 2026-11-18 20:00"),
        ("2026年11月23日下午2点", "Mon 2026-11-23 14:00"),
        ("11月23号", "Mon 2026-11-23"),
        ("3天后", "Sat 2026-11-21"),
        ("两小时后", "Wed 2026-11-18 12:20"),
    ],
)
def test_a_moment_is_understood(text: str, meant: str) -> None:
    assert shown(moment(text, NOW)) == meant


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("today", "2026-11-18", "2026-11-18"),
        ("this week", "2026-11-16", "2026-11-22"),
        ("next week", "2026-11-23", "2026-11-29"),
        ("this weekend", "2026-11-21", "2026-11-22"),
        ("на следующей неделе", "2026-11-23", "2026-11-29"),
        ("на выходных", "2026-11-21", "2026-11-22"),
        ("下周", "2026-11-23", "2026-11-29"),
        ("本周末", "2026-11-21", "2026-11-22"),
        ("february", "2027-02-01", "2027-02-28"),
        ("в ноябре", "2026-11-01", "2026-11-30"),
        ("2026-11-23T15:00", "2026-11-23", "2026-11-23"),
    ],
)
def test_a_span_of_days_is_understood(text: str, first: str, last: str) -> None:
    found = days(text, NOW)
    assert (found.first, found.last) == (date.fromisoformat(first), date.fromisoformat(last))


@pytest.mark.parametrize(
    "text",
    [
        "", "   ", "soon", "banana tomorrow", "tomorrow banana", "5", "at 5", "tomorrow morning",
        "tomorrow today", "Tue 2026-11-23", "monday tuesday", "monday in november",
        "15:00 16:00", "25:00", "12:60", "2026-13-01", "2026-02-30", "31 november", "1800-01-01", "9999-12-31",
        "2026-11-23 to 2026-11-25", "next week", "in 99999999 days", "11/23/2026", "скоро", "快了", "*", "{0}", "\x00",
        "1" * 60, "в " * 30,
    ],
)  # fmt: skip
def test_what_is_unclear_is_refused_with_the_form_that_is_expected(text: str) -> None:
    with pytest.raises(ToolRefused) as caught:
        moment(text, NOW)
    assert caught.value.code == "date.unclear"
    assert "2026-11-23T15:00" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("45 min", 45), ("1.5 h", 90), ("1h30m", 90), ("an hour", 60), ("half an hour", 30), ("2 days", 2 * 24 * 60),
        ("полчаса", 30), ("1 час 30 минут", 90), ("2 часа", 120), ("1,5 часа", 90),
        ("半小时", 30), ("两个小时", 120), ("90分钟", 90),
    ],
)  # fmt: skip
def test_a_duration_is_understood(text: str, minutes: int) -> None:
    assert duration(text) == timedelta(minutes=minutes)


@pytest.mark.parametrize("text", ["", "30", "16:00", "tomorrow", "0 min", "9999 days", "min 45", "soon"])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert duration(text) is None


def test_a_time_alone_is_on_the_day_that_is_given() -> None:
    assert shown(moment("16:30", NOW, date(2026, 12, 24))) == "Thu 2026-12-24 16:30"


def test_a_time_that_the_clocks_leave_out_is_the_one_they_show_instead() -> None:
    assert shown(moment("2026-03-29T02:30", NOW)) == "Sun 2026-03-29 03:30"
    assert shown(at(date(2026, 10, 25), 2 * 60 + 30, NOW)) == "Sun 2026-10-25 02:30"


ANYTHING = st.text(max_size=60) | st.text(
    st.sampled_from(
        "0123456789:.-TZ  " + "".join(sorted({*"tomorrow next monday pm in", *"завтра в час", *"明天下周一点后"}))
    ),
    max_size=30,
)


TIMES = st.integers(-20_000_000, 80_000_000).map(
    lambda minutes: (NOW.astimezone(UTC) + timedelta(minutes=minutes)).astimezone(BERLIN)
)


@given(ANYTHING, TIMES)
def test_whatever_is_written_is_a_moment_of_the_calendar_or_refused(text: str, now: datetime) -> None:
    for read in (moment, days):
        try:
            found = read(text, now)
        except ToolRefused:
            continue
        when = found[0] if isinstance(found, tuple) else found
        assert YEARS.start - 1 <= when.year <= YEARS.stop
    assert duration(text) is None or duration(text)


@given(TIMES, st.sampled_from(["T", " "]))
def test_what_is_shown_is_read_as_the_same(when: datetime, between: str) -> None:
    assert shown(moment(f"{when:%Y-%m-%d}{between}{when:%H:%M}", NOW)) == shown(when)
    assert shown(moment(shown(when), NOW)) == shown(when)
    assert shown(moment(shown(when.date()), NOW)) == shown(when.date())
