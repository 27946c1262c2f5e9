"""`victoria publish --type` and `victoria hypotheses`: what may be so, raised by hand, and what became of it."""

import json
import time
from typing import Any

import pytest

from tests.gateway.conftest import WITHIN, Call, Cli

STAGES = ("understand", "plan", "step-execute", "aggregate", "memory-compress", "hypothesis-validation")
BODY = {"statement": "The file docs/alpha.txt is empty.", "evidence": ["Nobody has read it."]}


def test_a_hypothesis_is_raised_by_hand_shown_and_ends_open_without_a_model(cli: Cli, call: Call) -> None:
    cli.start("worker", *STAGES).until("ready")
    body = json.dumps({**BODY, "run_id": "guess-1"})
    queued = [call("publish", "--type", "HypothesisRaised", "--json-body", body, "--json").json() for _ in range(2)]
    assert queued == [{"run_id": "guess-1", "status": "queued"}] * 2
    give_up = time.monotonic() + WITHIN
    row: dict[str, Any] = {}
    while row.get("verdict", "validating") == "validating":
        assert time.monotonic() < give_up, row
        rows: list[dict[str, Any]] = call("hypotheses", "--json").json()
        row = next((each for each in rows if each["id"] == "guess-1"), row)
    assert (row["id"], row["verdict"], row["confidence"]) == ("guess-1", "open", 0.0)
    assert len(row["validations"]) == 1
    assert call("hypotheses", "show", "guess-1", "--json").json() == row
    shown = call("hypotheses", "show", "guess-1").out
    assert shown.startswith("The file docs/alpha.txt is empty.\nopen · confidence 0.00 · ")
    listed = [line.split()[:3] for line in call("hypotheses").out.splitlines()]
    assert ["guess-1", "open", "0.00"] in listed
    for command in ("status", "plan"):
        done = call(command, "guess-1")
        assert (done.code, "[run.hypothesis]" in done.err) == (2, True)
        assert "`victoria hypotheses show guess-1`" in done.err
    unknown = call("hypotheses", "show", "guess-2")
    assert (unknown.code, "[hypothesis.unknown]" in unknown.err) == (2, True)

    published = cli("publish", "--session", "trip", "Remember that tea is good. Read docs/alpha.txt", "--wait")
    assert published.code == 0
    while not (kept := call("sessions", "memory", "trip", "--json").json()):
        assert time.monotonic() < give_up + WITHIN
    assert [(each[0], each[1]) for each in kept[0]["items"]] == [("remember", "tea is good")]
    assert "remember    tea is good  user run:" in call("sessions", "memory", "trip").out
    call("sessions", "clear", "trip")
    assert call("sessions", "memory", "trip", "--json").json() == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--type", "Nothing", "--json-body", "{}"), "event.unknown_type", "victoria events"),
        (("--type", "RunFinished", "--json-body", "{}"), "publish.type", "HypothesisRaised"),
        (("--type", "CancelRequested", "--json-body", "{}"), "publish.type", "victoria cancel"),
        (("--type", "HypothesisRaised", "--json-body", "{}"), "event.malformed", "`statement`"),
        (("--type", "HypothesisRaised", "--json-body", '{"statement": 1}'), "event.malformed", "$.statement"),
        (("--type", "HypothesisRaised", "--json-body", '{"statement": "a", "x": 1}'), "event.malformed", "`x`"),
        (("--type", "HypothesisRaised", "--json-body", "no"), "event.malformed", "HypothesisRaised"),
        (("--type", "HypothesisRaised", "--json-body", '{"statement": "a", "project": "x"}'), "project.unknown", "'x'"),
        (("--type", "HypothesisRaised", "a goal"), "publish.usage", "--json-body"),
        (("--json-body", '{"goal": ""}'), "goal.empty", "goal"),
        (("--json-body", "{}", "a goal"), "publish.usage", "either"),
    ],
)
def test_what_can_not_be_published_is_refused_and_the_field_is_named(
    call: Call, arguments: tuple[str, ...], code: str, says: str
) -> None:
    done = call("publish", *arguments)
    text = " ".join(done.err.split())
    assert (done.code, f"[{code}]" in text, says in text) == (2, True, True), text


def test_of_several_lines_those_that_are_no_hypotheses_are_named(cli: Cli) -> None:
    lines = '{"statement": "a"}\n{"statement": ""}\n{"statement": "b", "run_id": "guess-b"}\n'
    done = cli("publish", "--type", "HypothesisRaised", "--stdin", stdin=lines)
    assert (done.code, len(done.out.split()), "line 2:" in done.err) == (1, 2, True)
