"""What a failure leads to: decided purely, so every case can be looked at."""

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis._parsers import BaseParser
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from schemas.errors import InvalidInput, NotReachable
from streams.outcome import Again, Dead, failed
from streams.stage import Policy, Reject, Snooze

POLICY = Policy(attempts=4, backoff=0.5, backoff_max=10.0)


@given(attempt=st.integers(1, 3), jitter=st.floats(0, 1))
def test_a_retry_waits_longer_each_time_within_a_quarter_and_never_beyond_the_limit(
    attempt: int, jitter: float
) -> None:
    outcome = failed(ValueError("x"), attempt, POLICY, jitter)
    assert isinstance(outcome, Again)
    assert outcome.attempt == attempt + 1
    planned = min(0.5 * 2 ** (attempt - 1), 10.0)
    assert 0.75 * planned <= outcome.delay <= 1.25 * planned


@given(attempt=st.integers(4, 1000), jitter=st.floats(0, 1))
def test_after_the_last_attempt_it_is_given_up(attempt: int, jitter: float) -> None:
    outcome = failed(ValueError("the reason"), attempt, POLICY, jitter)
    assert isinstance(outcome, Dead)
    assert outcome.error.code == "stage.error"
    assert "the reason" in outcome.error.message


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (Reject("wrong"), "stage.rejected"),
        (InvalidInput("goal.empty", "Empty.", "Say something."), "goal.empty"),
    ],
)
def test_what_trying_again_can_not_mend_is_given_up_at_once(problem: Exception, code: str) -> None:
    outcome = failed(problem, 1, POLICY, 0.5)
    assert isinstance(outcome, Dead)
    assert (outcome.error.code, bool(outcome.error.hint)) == (code, True)


@pytest.mark.parametrize("problem", [NotReachable("server.unreachable", "Away."), TimeoutError()])
def test_what_may_pass_is_tried_again(problem: Exception) -> None:
    assert isinstance(failed(problem, 1, POLICY, 0.5), Again)
    assert isinstance(failed(problem, 4, POLICY, 0.5), Dead)


STATES = [
    "OOM full",
    "READONLY replica",
    "CLUSTERDOWN down",
    "MASTERDOWN gone",
    "TRYAGAIN later",
    "LOADING data",
    "MOVED 1 h:1",
    "ASK 1 h:1",
    "BUSY script",
    "MISCONF disk",
    "NOREPLICAS few",
]
replied: Any = cast("Any", BaseParser).parse_error
"""What the client makes of an error reply."""


@pytest.mark.parametrize("problem", [Snooze(3.0), ConnectionLost("gone"), *map(replied, STATES)], ids=repr)
def test_snoozing_and_trouble_of_the_server_never_count_as_an_attempt(problem: Exception) -> None:
    outcome = failed(problem, 4, POLICY, 0.5)
    assert isinstance(outcome, Again)
    assert outcome.attempt == 4


@pytest.mark.parametrize(
    "trouble",
    [
        ConnectionLost("gone"),
        OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        ReadOnlyError("You can't write against a read only replica."),
        ResponseError("MISCONF Errors writing to the AOF file: No space left on device"),
    ],
)
def test_the_server_s_trouble_is_waited_out_however_long_it_lasts(trouble: RedisError) -> None:
    outcome = failed(trouble, 1000, POLICY, 0.5)
    assert isinstance(outcome, Again)
    assert outcome.attempt == 1000
    assert isinstance(failed(ResponseError("WRONGTYPE of key"), 1000, POLICY, 0.5), Dead)
