"""How a stage gets on follows from a window of measures alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.lag import Count, Measure, exactly
from streams.verdict import Rates, comparable, rates, verdict

QUIET = Measure(
    stage="plan",
    stream="plan",
    partition="0",
    at=100.0,
    undelivered=exactly(0),
    pending=0,
    abandoned=0,
    delayed=0,
    dead=exactly(0),
    oldest=None,
    held=0.0,
    added=1_000,
    mark="a",
    consumers=1,
)
WAITING = replace(QUIET, undelivered=exactly(50), oldest=20.0)
UNKNOWN = Count(None, 1_000, 5_000)


def later(measure: Measure, **changes: object) -> Measure:
    return replace(measure, **({"at": measure.at + 10} | changes))


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ([QUIET], "ok"),
        ([replace(QUIET, consumers=0)], "ok"),
        ([replace(QUIET, delayed=5)], "ok"),
        ([replace(WAITING, consumers=0)], "stopped"),
        ([replace(WAITING, consumers=0, undelivered=UNKNOWN)], "stopped"),
        ([WAITING], "unknown"),
        ([WAITING, later(WAITING, at=100.1)], "unknown"),
        ([WAITING, later(WAITING)], "stalled"),
        ([WAITING, later(WAITING, undelivered=exactly(90), added=1_040)], "stalled"),
        ([replace(WAITING, consumers=None), later(WAITING, consumers=None)], "stalled"),
        ([replace(WAITING, undelivered=UNKNOWN), later(WAITING, undelivered=UNKNOWN)], "stalled"),
        ([QUIET, later(WAITING, oldest=0.5)], "ok"),
        ([WAITING, later(WAITING, undelivered=exactly(47), pending=3, held=9.0, mark="b")], "ok"),
        ([replace(WAITING, pending=3), later(WAITING, pending=3, held=9.0)], "ok"),
        ([replace(WAITING, pending=3), later(WAITING, pending=3, held=61.0)], "stalled"),
        ([replace(WAITING, pending=3), later(WAITING, pending=3, held=61.0, mark="b")], "ok"),
        ([WAITING, later(WAITING, undelivered=exactly(40), mark="b")], "ok"),
        ([WAITING, later(WAITING, undelivered=exactly(60), added=1_090, mark="b")], "falling behind"),
        ([WAITING, later(WAITING, undelivered=exactly(60), added=1_090, mark="b", oldest=0.9)], "ok"),
        ([WAITING, later(WAITING, added=7)], "unknown"),
    ],
)
def test_a_window_has_a_verdict(window: list[Measure], expected: str) -> None:
    assert verdict(window, patience=60) == expected


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ([WAITING], Rates()),
        ([WAITING, later(WAITING)], Rates(0.0, 0.0)),
        ([WAITING, later(WAITING, added=1_100, undelivered=exactly(30))], Rates(10.0, 12.0, 15.0)),
        ([WAITING, later(WAITING, added=1_100, undelivered=exactly(10), pending=20)], Rates(10.0, 12.0, 15.0)),
        ([WAITING, later(QUIET, added=1_100)], Rates(10.0, 15.0)),
        ([WAITING, later(WAITING, added=1_100, undelivered=exactly(60))], Rates(10.0, 9.0)),
        ([WAITING, later(WAITING, added=1_100, undelivered=UNKNOWN)], Rates(10.0)),
        ([WAITING, later(WAITING, added=7)], Rates()),
    ],
)
def test_a_window_has_rates_and_what_can_not_be_known_is_none(window: list[Measure], expected: Rates) -> None:
    assert rates(window) == expected


counts = st.integers(0, 5_000).map(exactly) | st.tuples(st.integers(1, 99), st.integers(99, 5_000)).map(
    lambda bounds: Count(None, *bounds)
)
measured = st.builds(
    Measure,
    stage=st.just("plan"),
    stream=st.just("plan"),
    partition=st.just("0"),
    at=st.integers(0, 100).map(float),
    undelivered=counts,
    pending=st.integers(0, 50),
    abandoned=st.just(0),
    delayed=st.integers(0, 5),
    dead=counts,
    oldest=st.none() | st.floats(0, 1_000),
    held=st.floats(0, 1_000),
    added=st.integers(0, 10_000),
    mark=st.sampled_from("ab"),
    consumers=st.none() | st.integers(0, 3),
)
windows = st.lists(measured, min_size=1, max_size=8)


@given(window=windows, patience=st.floats(0, 1_000))
def test_what_is_done_is_ok_and_what_nobody_does_has_stopped(window: list[Measure], patience: float) -> None:
    found, last = verdict(window, patience), window[-1]
    if last.oldest is None:
        assert found == "ok"
    elif last.consumers == 0:
        assert found == "stopped"
    else:
        assert found != "stopped"
    if last.oldest is not None and len(comparable(window)) == 1 and last.consumers != 0:
        assert found == "unknown"


@given(window=windows, shift=st.integers(0, 1_000), more=st.floats(0, 1_000))
def test_a_verdict_depends_on_no_clock_and_patience_only_helps(window: list[Measure], shift: int, more: float) -> None:
    found = verdict(window, 60)
    assert verdict([replace(each, at=each.at + shift) for each in window], 60) == found
    if found != "stalled":
        assert verdict(window, 60 + more) == found


@given(window=windows)
def test_rates_are_never_negative_and_an_eta_has_something_to_wait_for(window: list[Measure]) -> None:
    found, last = rates(window), window[-1]
    assert all(number is None or number >= 0 for number in (found.into, found.out, found.eta))
    if found.eta is not None:
        assert last.unfinished.known
        assert (found.out or 0) > (found.into or 0)
