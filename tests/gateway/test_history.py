"""History from the command line: `up` keeps it, it can be rebuilt, and what stands in its way is said."""

import json

import pytest

from tests.gateway.conftest import Call, Cli

GOAL = "Read docs/beta.txt"
KEPT = "true"


pytestmark = pytest.mark.usefixtures("kept_database")


def test_up_keeps_history_which_can_be_rebuilt(cli: Cli) -> None:
    cli.start("up", VICTORIA_HISTORY=KEPT).until("ready")
    for _ in range(2):
        assert cli("publish", "--wait", GOAL).code == 0
    rebuilt = json.loads(cli("project", "rebuild", "--yes", "--json").out)
    assert [(each["table"], each["rows"]) for each in rebuilt["tables"]] == [("runs", 2), ("steps", 2), ("answers", 2)]
    again = cli("project", "rebuild", "--yes")
    assert again.out.count("as before; 0 changed") == 3
    told = cli("doctor", VICTORIA_HISTORY=KEPT)
    assert "migrations applied" in told.out
    assert "entries wait to be written" in told.out


def test_nobody_is_asked_who_is_not_there(call: Call) -> None:
    done = call("project", "rebuild")
    assert (done.code, "rebuild.unconfirmed" in done.err) == (2, True)


def test_history_can_be_given_up(cli: Cli) -> None:
    assert cli("project", "stop", "--json").code == 2
    done = cli("project", "stop", "--yes", "--json", VICTORIA_PREFIX="given-up")
    assert json.loads(done.out) == {"journals": 0}


def test_a_database_that_is_away_is_told_and_runs_go_on(cli: Cli) -> None:
    url = "postgresql://u:secret@127.0.0.1:1/x"
    up = cli.start("up", VICTORIA_PREFIX="away", VICTORIA_HISTORY=KEPT, DATABASE_URL=url)
    up.until("no history is kept for now: No database answers")
    assert cli("publish", "--wait", GOAL, VICTORIA_PREFIX="away").code == 0
    told = cli("doctor", "--json", VICTORIA_PREFIX="away", DATABASE_URL=url)
    assert told.code == 5
    checks = {each["name"]: each for each in json.loads(told.out)}
    assert checks["database"]["verdict"] == "failed"
    assert "entries wait to be written" in str(checks["history"])  # so they are not trimmed before they are
    assert "secret" not in told.out


def test_the_bench_says_how_fast_history_is_written(cli: Cli) -> None:
    figures = json.loads(cli("bench", "project", "--events", "1000", "--json").out)
    assert figures["events"] == 1000
    assert figures["events_per_s"] > 0
    assert figures["copy_per_s"] > 0
