"""`victoria runs`, from the command line."""

import json

import pytest

from gateway.screen import OUT
from tests.gateway.conftest import Call

LIST = "List the files in the folder docs"
HOSTILE = "Fix \x1b[2J\x07 this \u202e\n\n" + "及其他 " * 100


def test_runs_are_listed_the_newest_first_and_what_is_in_their_goals_harms_nobody(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = {"VICTORIA_PREFIX": "runs"}
    assert "no such runs" in call("runs", **mine).err
    ended = call("run", LIST, "--json", **mine).json()["run_id"]
    waiting = call("publish", HOSTILE, **mine).out.strip()
    rows = [json.loads(line) for line in call("runs", "--json", **mine).out.splitlines()]
    assert [(row["id"], row["status"]) for row in rows] == [(waiting, "queued"), (ended, "completed")]
    assert (rows[0]["seconds"], rows[1]["seconds"] >= 0, rows[1]["goal"]) == (None, True, LIST)
    out = call("runs", **mine).out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert [words[0] for line in out.splitlines() if not line.startswith(" ") and (words := line.split())] == [
        waiting,
        ended,
    ]
    assert not set("\x1b\x07\u202e") & set(out)
    assert LIST in out
    monkeypatch.setattr(OUT, "width", 160)
    wide = call("runs", "-n", "1", **mine).out
    assert len(wide.splitlines()) == 1
    for options, found in (
        (("--status", "completed"), [ended]),
        (("--status", "failed"), []),
        (("--since", "1h", "-n", "1"), [waiting]),
        (("--since", "2100-01-01"), []),
        (("--project", "other"), []),
    ):
        listed = call("runs", *options, "--json", **mine).out.splitlines()
        assert [json.loads(line)["id"] for line in listed] == found


@pytest.mark.parametrize(
    ("options", "code"),
    [(("--status", "'; --"), "run.status"), (("--since", "soon"), "runs.since"), (("-n", "0"), "usage")],
)
def test_what_can_not_be_asked_for_is_named(call: Call, options: tuple[str, ...], code: str) -> None:
    done = call("runs", *options, "--json")
    assert (done.code, json.loads(done.out)["error"]["code"]) == (2, code)


def test_a_database_that_is_away_leaves_what_the_streams_have(call: Call) -> None:
    mine = {"VICTORIA_PREFIX": "runs-away", "DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/x"}
    run = call("publish", LIST, **mine).out.strip()
    done = call("runs", **mine)
    assert (done.code, run in done.out, "without history" in done.err) == (0, True, True)
    assert "secret" not in done.err
