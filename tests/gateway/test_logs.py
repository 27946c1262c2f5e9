"""What log events say, and what they keep to themselves."""

import json

import pytest
import structlog

from gateway import logs
from schemas.errors import ModelFailed

SECRET = "osmium-lantern-4711"


def logged(problem: Exception, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The event of an exception that was raised here."""

    def fail() -> None:
        raise problem

    try:
        fail()
    except Exception as raised:
        structlog.get_logger().warning("hop.failed", exc_info=raised)
    return json.loads(capsys.readouterr().err)


@pytest.mark.parametrize("level", ["info", "debug"])
@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (KeyError(SECRET), "KeyError at test_logs.py:"),
        (ModelFailed("model.engine", SECRET), "ModelFailed [model.engine]"),
    ],
)
def test_an_exceptions_own_words_are_logged_only_where_that_is_asked_for(
    problem: Exception, said: str, level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(level)
    event = logged(problem, capsys)
    assert event["error"].startswith(said)
    assert SECRET not in json.dumps(event)
    assert ("test_logs.py" in event.get("exception", "")) == (level == "debug")

    logs.configure(level, goals=True)
    assert SECRET in logged(problem, capsys)["error"]
