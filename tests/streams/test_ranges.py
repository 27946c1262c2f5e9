"""Ranges as people write them: each has one meaning, and what has none is refused with a code and a hint."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InvalidInput
from streams.ranges import FIRST, LAST, MOST, MOST_NEWEST, EntryId, Range, parse

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MS = 1_795_262_400_000
HOUR = 3_600_000
numbers = st.integers(0, MOST)
ids = st.builds(EntryId, numbers, numbers)
moments = st.integers(0, 250_000_000_000_000_000).map(lambda us: NOW.replace(year=1970) + timedelta(microseconds=us))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("start", Range()),
        ("end", Range(newest=0)),
        (":end", Range()),
        ("start:end", Range()),
        (" -5 ", Range(newest=5)),
        ("5-1:7-2", Range(EntryId(5, 1), EntryId(7, 2))),
        ("5:7", Range(EntryId(5, 0), EntryId(7, MOST))),
        ("5-1", Range(EntryId(5, 1), EntryId(5, 1))),
        ("5", Range(EntryId(5, 0), EntryId(5, MOST))),
        ("5-1:", Range(EntryId(5, 1), LAST)),
        (":5-1", Range(FIRST, EntryId(5, 1))),
        ("end:", Range(newest=0)),
        ("@-1h:end", Range(EntryId(MS - HOUR, 0))),
        ("@-1h", Range(EntryId(MS - HOUR, 0))),
        ("@-1h30m:-30s", Range(EntryId(MS - 3 * HOUR // 2, 0), EntryId(MS - 30_000, MOST))),
        ("@:-1d", Range(FIRST, EntryId(MS - 24 * HOUR, MOST))),
        ("@2026-11-21T11:00Z:2026-11-21T13:30:00.5+01:00", Range(EntryId(MS - HOUR, 0), EntryId(MS + 1_800_500, MOST))),
        ("@1999-01-01:end", parse("@1999-01-01T00:00")),
    ],
)
def test_a_range_means_what_it_says(text: str, meant: Range) -> None:
    assert parse(text, NOW) == meant


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *((text, "malformed") for text in ("", "@", "x", "-", "1:2:3", "5-", "-5:3", "@10:00", "@-1y", "@-h", "@::")),
        *((text, "malformed") for text in ("@--1h", "٣", "@2026-1-1", "5 : 7", "$", "-1-1:2", "begin:end")),
        *((text, "reversed") for text in ("7:5", "5-2:5-1", "@-1h:-2h", "@end:-1h", "end:5")),
        *((text, "too_large") for text in ("-0", "-1" + 30 * "0", f"{MOST + 1}", f"5-{MOST + 1}:6")),
        *((text, "time") for text in ("@2026-02-30", "@2026-01-01T25:00", "@-999999999w")),
    ],
)
def test_what_is_no_range_is_refused_with_a_code_and_a_hint(text: str, code: str) -> None:
    with pytest.raises(InvalidInput) as problem:
        parse(text, NOW)
    assert (problem.value.code, bool(problem.value.hint)) == (f"range.{code}", True)


@given(first=ids, last=ids)
def test_ids_mean_themselves_in_their_order(first: EntryId, last: EntryId) -> None:
    first, last = sorted((first, last))
    if first < LAST:
        assert parse(f"{first}:{last}") == Range(first, last)
    assert EntryId.of(str(first)) == first


@given(count=st.integers(1, MOST_NEWEST))
def test_the_newest_are_counted(count: int) -> None:
    assert parse(f"-{count}") == Range(newest=count)


@given(first=moments, last=moments)
def test_times_have_their_ms_whole(first: datetime, last: datetime) -> None:
    first, last = sorted((first, last))
    found = parse(f"@{first.isoformat()}:{last.isoformat()}")
    assert found.last.ms - found.first.ms in {(last - first) // timedelta(milliseconds=1) + more for more in (0, 1)}
    assert (found.first.number, found.last.number) == (0, MOST)


@given(text=st.text() | st.text("0123456789-:@startendhmdwTZ.+ ", max_size=40))
def test_any_text_is_a_range_or_refused(text: str) -> None:
    found = Range()
    with suppress(InvalidInput):
        found = parse(text, NOW)
    assert FIRST <= found.first <= found.last <= LAST
