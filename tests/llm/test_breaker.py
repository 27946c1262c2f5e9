"""What failed is left alone for a while, longer each time, and comes back with the first success."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.breaker import FAILURES, REST, REST_AT_MOST, Breaker
from schemas.errors import ErrorInfo

ERROR = ErrorInfo("model.unreachable", "It is away.")


def opened() -> Breaker:
    breaker = Breaker()
    breaker.failed(ERROR, 0.0, at_once=True)
    return breaker


def test_a_certain_failure_opens_it_at_once_and_says_why() -> None:
    breaker = opened()
    assert (breaker.state, breaker.error) == ("open", ERROR)


def test_failures_that_may_be_a_requests_fault_open_it_only_several_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed(ERROR, 0.0, at_once=False)
    assert breaker.state == "closed"
    breaker.succeeded()
    for _ in range(FAILURES):
        assert breaker.state == "closed"
        breaker.failed(ERROR, 0.0, at_once=False)
    assert breaker.state == "open"


def test_it_is_tried_once_when_it_has_rested() -> None:
    breaker = opened()
    assert not breaker.may_try(REST - 0.01)
    assert breaker.may_try(REST)
    assert breaker.state == "half-open"
    assert not breaker.may_try(REST)
    breaker.succeeded()
    assert (breaker.state, breaker.error) == ("closed", None)


def test_each_trial_in_vain_doubles_the_rest_up_to_a_limit() -> None:
    breaker, now, rests = opened(), REST, list[float]()
    for _ in range(8):
        assert breaker.may_try(now)
        breaker.trial_failed(ERROR, now)
        rest = next(rest for rest in (2.0**n for n in range(10)) if breaker.may_try(now + min(rest, REST_AT_MOST)))
        breaker.trial_ended()
        rests.append(min(rest, REST_AT_MOST))
        now += rests[-1]
    assert rests == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_a_success_lets_the_next_rest_be_short_again() -> None:
    breaker = opened()
    breaker.may_try(REST)
    breaker.trial_failed(ERROR, REST)
    breaker.succeeded()
    breaker.failed(ERROR, 100.0, at_once=True)
    assert breaker.may_try(100.0 + REST)


def test_a_sign_of_life_or_a_trial_that_was_broken_off_lets_it_be_tried_now() -> None:
    breaker = opened()
    breaker.wake()
    assert breaker.may_try(0.0)
    breaker.trial_ended()
    assert breaker.state == "open"
    assert breaker.may_try(0.0)


@given(st.lists(st.sampled_from(["fail", "fail at once", "succeed", "try", "trial failed", "wake", "broken off"])))
@pytest.mark.parametrize("step", [0.0, 0.7, 100.0])
def test_it_is_never_stuck_and_an_open_one_says_why(step: float, steps: list[str]) -> None:
    breaker, now = Breaker(), 0.0
    for each in steps:
        now += step
        match each:
            case "fail" | "fail at once":
                breaker.failed(ERROR, now, at_once=each == "fail at once")
            case "succeed":
                breaker.succeeded()
            case "try":
                breaker.may_try(now)
            case "trial failed" if breaker.state == "half-open":
                breaker.trial_failed(ERROR, now)
            case "broken off" if breaker.state == "half-open":
                breaker.trial_ended()
            case _:
                breaker.wake()
        assert (breaker.state == "closed") == (breaker.error is None)
    if breaker.state == "open":
        assert breaker.may_try(now + REST_AT_MOST)
