"""Whatever is wrong with what was given: a code, a hint, the right exit code, never a traceback."""

import json

import pytest

from tests.gateway.conftest import Call

NOWHERE = "redis://someone:secret@127.0.0.1:1/0"
AWAY = ["--set", "ollama_hosts=127.0.0.1:1"]
ODD = ["--set", "ollama_hosts=http://me:secret@"]
WRONG: dict[str, tuple[list[str], int, str, str]] = {
    "an empty goal": (["run", "  \n"], 2, "goal.empty", "Say what you want"),
    "an empty goal to publish": (["publish", ""], 2, "goal.empty", "Say what you want"),
    "a goal over 64 KiB": (["run", "я" * 33_000], 2, "goal.too_large", "Put long material into a file"),
    "no goal": (["run"], 2, "usage", "Usage: victoria run"),
    "an unknown project": (["run", "x", "--project", "nope"], 2, "project.unknown", "Allowed: project"),
    "an unknown setting": (["run", "x", "--set", "log_levle=info"], 2, "settings.unknown", "--log-level"),
    "a setting without a value": (["run", "x", "--set", "log_level"], 2, "settings.invalid", "--set KEY=VALUE"),
    "a bad setting": (["run", "x", "--set", "partitions=many"], 2, "settings.invalid", "Correct it there"),
    "an unknown model": (["run", "x", "--model", "local:gpt-nope"], 3, "model.missing", "victoria models"),
    "no node": (["run", "x", "--model", "x:1b", *AWAY], 5, "model.unreachable", "Ollama"),
    "an empty question": (["ask", " "], 2, "ask.empty", "Say what you want"),
    "a question to no model": (["ask", "x"], 1, "model.none", "Unset VICTORIA_MODEL"),
    "a question to no node": (["ask", "x", "--model", "ollama:x", *AWAY], 5, "model.unreachable", "Ollama"),
    "a question to an unknown model": (
        ["ask", "x", "--model", "local:gpt-nope"],
        3,
        "model.missing",
        "victoria models",
    ),
    "a question to a broken model": (["ask", "x", "--model", "local:/dev/null"], 3, "model.broken", "Name another"),
    "an Ollama that is no address": (["models", "--model", "ollama", *ODD], 2, "model.url", "http://gpu-1:11434"),
    "no model to pull": (["models", "pull", " "], 2, "model.name", "victoria models pull"),
    "a negative timeout": (["run", "x", "--timeout", "-1"], 2, "usage", "victoria run --help"),
    "a server not there": (["run", "x", "--redis-url", NOWHERE], 5, "server.unreachable", "VICTORIA_REDIS_URL"),
    "status without server": (["status", "x", "--redis-url", NOWHERE], 5, "server.unreachable", "Start it"),
    "a worker without server": (["worker", "plan", "--redis-url", NOWHERE], 5, "server.unreachable", "Start it"),
    "a state folder that can't be": (["run", "x", "--set", "state_dir=/dev/null/x"], 3, "server.embedded", "Set "),
    "an id that is no text": (["status", "a\udcffb"], 2, "usage.encoding", "UTF-8"),
    "too much that is no text": (["project", "rebuild", "\udcff"], 2, "usage.encoding", "UTF-8"),
    "an unknown run": (["status", "nope"], 2, "run.unknown", "victoria tail intake"),
    "an unknown stage": (["worker", "plam"], 2, "stage.unknown", "Stages: understand, plan"),
    "an unknown stream": (["tail", "nope"], 2, "stream.unknown", "Streams: intake"),
    "a negative count": (["tail", "-n", "-1"], 2, "usage", "victoria tail --help"),
    "an unknown event": (["events", "Nope"], 2, "event.unknown_type", "victoria events"),
    "neither goal nor --stdin": (["publish"], 2, "publish.usage", "victoria publish"),
    "both goal and --stdin": (["publish", "x", "--stdin"], 2, "publish.usage", "victoria publish"),
    "an unknown command": (["rum"], 2, "usage", "victoria --help"),
    "an unknown option": (["run", "x", "--nope"], 2, "usage", "victoria run --help"),
}


@pytest.mark.parametrize(("arguments", "exit_code", "code", "hint"), WRONG.values(), ids=WRONG)
def test_it_is_said_with_code_and_hint(call: Call, arguments: list[str], exit_code: int, code: str, hint: str) -> None:
    done = call(*arguments)
    assert (done.code, done.out) == (exit_code, "")
    assert done.err.startswith("error ")
    assert f"[{code}]\nhint" in done.err
    assert hint in done.err
    assert "secret" not in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code", "hint"),
    [wrong for wrong in WRONG.values() if wrong[0][0] not in ("worker", "rum")],
    ids=[name for name, wrong in WRONG.items() if wrong[0][0] not in ("worker", "rum")],
)
def test_with_json_it_is_one_object(call: Call, arguments: list[str], exit_code: int, code: str, hint: str) -> None:
    done = call(*arguments, "--json")
    error = done.json()["error"]
    assert (done.code, done.err, error["code"]) == (exit_code, "", code)
    assert error["message"]
    assert hint in error["hint"]


def test_an_unknown_variable_names_the_nearest(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICTORIA_MODLE", "none")
    done = call("config")
    assert done.code == 2
    assert "[settings.unknown]\nhint  Did you mean VICTORIA_MODEL?" in done.err


def test_a_goal_may_look_like_an_option(call: Call) -> None:
    assert json.loads(call("publish", "--json", "--", "--json").out)["status"] == "queued"


@pytest.mark.parametrize(("level", "trace"), [("warning", False), ("debug", True)])
def test_a_bug_is_one_line_and_a_hint_unless_it_is_looked_for(
    call: Call, monkeypatch: pytest.MonkeyPatch, level: str, trace: bool
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("by nobody")

    monkeypatch.setattr("gateway.config.describe", broken)
    done = call("config", "--set", f"log_level={level}")
    assert done.code == 1
    assert "error Victoria made a mistake: ZeroDivisionError: by nobody [bug]" in done.err
    assert ("Traceback" in done.err) == trace
    assert ("log_level=debug" in done.err) != trace
