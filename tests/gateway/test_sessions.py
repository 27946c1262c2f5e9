"""`victoria sessions`: what was said in a conversation, and forgetting it."""

import time

import pytest

from tests.gateway.conftest import WITHIN, Call, Cli

STAGES = ("understand", "plan", "step-execute", "aggregate", "memory-compress")
EVIL = "  {trip}:\n\x1b[31mred\x07"


@pytest.fixture
def at_work(cli: Cli) -> None:
    cli.start("worker", *STAGES).until("ready")


def goals(*lines: str) -> str:
    return "".join(f'{{"goal": "{line}"}}\n' for line in lines)


@pytest.mark.usefixtures("at_work")
def test_a_conversation_is_listed_shown_and_cleared(cli: Cli, call: Call) -> None:
    cli("publish", "--stdin", "--wait", "--session", "trip", stdin=goals("Read docs/alpha.txt", "Read docs/beta.txt"))
    shown = call("sessions", "show", "trip", "--json").json()
    assert [(said["user"], said["assistant"]) for said in shown["said"]] == [
        ("Read docs/alpha.txt", "This is alpha.txt.\n"),
        ("Read docs/beta.txt", "This is beta.txt.\n"),
    ]
    assert (shown["session"], shown["line"]) == ("trip", [])
    text = call("sessions", "show", "trip").out
    for part in ("Read docs/alpha.txt", "This is beta.txt.", shown["said"][0]["run"]):
        assert part in text

    (row,) = call("sessions", "-n", "1", "--json").json()
    assert (row["session"], row["said"], row["line"]) == ("trip", 2, 0)
    _, listed = call("sessions", "-n", "1").out.splitlines()
    assert listed.split()[:3] == ["trip", "2", "0"]
    assert len(listed) <= 80

    assert call("sessions", "clear", "trip").out == "2 exchanges cleared\n"
    assert call("sessions", "clear", "trip", "--json").json() == {"session": "trip", "cleared": 0}
    unknown = call("sessions", "show", "trip")
    assert (unknown.code, "[session.unknown]" in unknown.err) == (2, True)
    assert "trip" not in [row["session"] for row in call("sessions", "--json").json()]


def test_a_run_that_waits_for_an_earlier_turn_says_for_which(cli: Cli, call: Call) -> None:
    (one,), (two,) = (call("publish", "--session", "work", "Read docs/alpha.txt").out.split() for _ in range(2))
    cli.start("worker", "understand").until("ready")
    give_up = time.monotonic() + WITHIN
    while one not in (done := call("status", two)).out:
        assert time.monotonic() < give_up, done.out
    assert f"`victoria cancel {one}` ends it" in " ".join(done.out.split())
    assert call("status", two, "--json").json()["error"]["code"] == "session.turn"
    shown = call("sessions", "show", "work")
    assert shown.out.splitlines() == [f"turn  {one}", f"waits  {two}"]


@pytest.mark.usefixtures("at_work")
def test_a_hostile_id_is_harmless_on_a_terminal(cli: Cli, call: Call) -> None:
    assert cli("run", "--session", EVIL, "Read docs/alpha.txt").code == 0
    assert "\x1b[31m" not in cli.on_terminal("sessions", NO_COLOR="1")
    assert "This is alpha.txt." in call("sessions", "show", EVIL).out
    assert [row["session"] for row in call("sessions", "--json").json() if "red" in row["session"]] == [EVIL]
    assert call("sessions", "clear", EVIL).out == "1 exchange cleared\n"


def test_a_session_that_cannot_be_is_refused(call: Call) -> None:
    for command in (["run", "hi", "--session"], ["sessions", "show"], ["sessions", "clear"]):
        done = call(*command, "x" * 201)
        assert (done.code, "[session.too_long]" in done.err) == (2, True)
