"""The chat in a pipe: lines in, answers out, on the streams and over HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from schemas.plan import Plan, ToolCall
from tests.gateway.conftest import Call, Cli
from tests.gateway.door import DoorProcess, lasting
from tests.gateway.test_callers import made
from tests.rows.given import step, strategy_in


@pytest.fixture(scope="module")
def door(shared: Cli) -> Iterator[DoorProcess]:
    """A door that wants a token, which the environment has."""
    shared.environ["VICTORIA_TOKEN"] = made(shared, "chat")
    with lasting(shared, "--set", "http_auth=always") as door:
        yield door


@pytest.mark.parametrize("over_http", [False, True], ids=["streams", "http"])
def test_each_line_is_a_turn_of_one_session_and_has_one_answer(
    cli: Cli, call: Call, door: DoorProcess, over_http: bool
) -> None:
    to = ["--url", door.url] if over_http else []
    session = f"pipe-{over_http}"
    lines = "Прочитай docs/alpha.txt\n\nRead docs/beta.txt\nRead what is \\\nthere"
    done = cli("chat", "--session", session, *to, stdin=lines)
    one, two, three = done.out.splitlines()
    assert (one, two) == ("This is alpha.txt.", "This is beta.txt.")
    assert three.startswith("No model answered")
    assert done.err.count("· rules · by victoria ·") == 3
    assert "\x1b" not in done.out + done.err
    said = call("sessions", "show", session, "--json").json()["said"]
    assert [each["user"] for each in said][::2] == ["Прочитай docs/alpha.txt", "Read what is \nthere"]


def test_commands_say_how_the_next_goals_are_wanted_and_others_are_for_terminals(cli: Cli, call: Call) -> None:
    lines = (
        "/strategy simple\n/session pipe-two\nRead docs/alpha.txt\n/help\n/stratgy\n/clear\n/quit\nRead docs/beta.txt"
    )
    done = cli("chat", "--json", "--session", "pipe-one", stdin=lines)
    answered, terminal, unknown = map(json.loads, done.out.splitlines())
    assert answered["status"] == "completed"
    assert (terminal["error"]["code"], unknown["error"]["code"]) == ("chat.terminal", "chat.command")
    assert "Did you mean /strategy?" in unknown["error"]["hint"]
    assert done.code == 1
    assert call("sessions", "show", "pipe-two", "--json").json()["error"]["code"] == "session.unknown"


def test_the_next_line_answers_what_a_step_asks_and_without_one_it_is_said(cli: Cli, tmp_path: Path) -> None:
    asks = step("1", how="tool", call=ToolCall("ask_user", {"question": "Which page?", "choices": ["X", "Y"]}))
    strategy_in(tmp_path)
    (tmp_path / "plan.json").write_bytes(msgspec.json.encode(Plan("given", (asks,))))
    own = ("chat", "--json", "--strategy", "given", "--set", f"strategies_dir={tmp_path}", "--set", "prefix=given")
    done = cli(*own, stdin="Fix the page\n2\n")
    assert (done.json()["output"], done.code) == ("Y", 0)
    done = cli(*own, stdin="Fix the page")
    assert (done.json()["error"]["code"], done.code) == ("chat.unanswered", 1)
    assert "victoria answer" in done.json()["error"]["hint"]


def test_json_is_an_object_for_each_answer_and_a_bad_line_stops_nothing(cli: Cli, door: DoorProcess) -> None:
    done = cli("chat", "--json", "--url", door.url, stdin=f"{'x' * 70_000}\nRead docs/alpha.txt\n".encode() + b"\xff\n")
    refused, answered, broken = map(json.loads, done.out.splitlines())
    assert (refused["error"]["code"], broken["error"]["code"]) == ("goal.too_large", "goal.encoding")
    assert (answered["status"], answered["output"]) == ("completed", "This is alpha.txt.\n")
    assert answered["knowledge"]["task_id"] == answered["task_id"]
    assert done.code == 1


def test_a_door_that_is_not_there_is_said(call: Call) -> None:
    for url, code, error in (("http://127.0.0.1:9", 5, "door.unreachable"), ("ftp://x", 2, "chat.url")):
        done = call("chat", "--json", "--url", url)
        assert (done.code, done.json()["error"]["code"]) == (code, error)


def test_without_a_token_nobody_comes_in_and_tokens_are_not_shown(call: Call, door: DoorProcess) -> None:
    for token in ("", "wrong"):
        done = call("chat", "--json", "--url", door.url, VICTORIA_TOKEN=token)
        assert (done.code, done.json()["error"]["code"]) == (2, "http.token")
    assert "***" in call("config", VICTORIA_TOKEN="secret-token").out
    assert "secret-token" not in call("config", VICTORIA_TOKEN="secret-token").out
