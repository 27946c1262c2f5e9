"""`victoria dead` and `victoria redeliver`: what was given up, or is to be done once more, on the command line."""

import json
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import Call, Cli, server_of

EVENT = '{"id":"e%d","run":"%s","v":1,"at":"2026-11-21T10:00:00Z","trust":"user","body":{"goal":"Read docs/alpha.txt"}}'


@pytest.fixture
def letters(cli: Cli, call: Call) -> list[str]:
    """Five letters: of two stages and three errors; their names."""
    runs = [call("publish", f"Read docs/{name}.txt").out.strip() for name in ("alpha", "beta")]
    with server_of(Path(cli.environ["VICTORIA_STATE_DIR"])) as client:
        client.delete("{victoria:0}:dead", "{victoria:0}:audit")
        for number in range(5):
            letter = {
                "stage": "understand" if number < 4 else "nobody",
                "stream": "intake",
                "entry": "1-0",
                "error": {"code": f"x.{number % 3}", "message": "No \x1b[31m good."},
                "type": "GoalSubmitted",
                "event": "{" if number == 3 else EVENT % (number, runs[number % 2]),
            }
            client.xadd("{victoria:0}:dead", {"type": "DeadLetter", "event": json.dumps(letter)}, id=f"{number + 1}-0")
    return [f"0/{number + 1}-0" for number in range(5)]


def test_letters_are_listed_in_pages_shown_and_put_back_by_filter(call: Call, letters: list[str]) -> None:
    first = call("dead", "list", "--limit", "3", "--json").json()
    second = call("dead", "list", "--limit", "3", "--after", first["next"], "--json").json()
    assert [row["letter"] for row in (*first["letters"], *second["letters"])] == letters
    assert second["next"] is None
    people = call("dead", "list", "--code", "x.0")
    assert people.out.count("[x.0]") == 2
    assert "\x1b" not in people.out
    assert "x.1" in call("dead", "show", letters[1]).out
    assert call("dead", "show", letters[1], "--json").json()["dead"]["error"]["code"] == "x.1"

    assert call("dead", "redrive", "--stage", "understand", "--json").json()["error"]["code"] == "dead.unconfirmed"
    dry = call("dead", "redrive", "--stage", "understand", "--dry-run", "--json").json()
    assert (dry["done"], list(dry["skipped"].values())) == (3, [1])
    assert len(call("dead", "list", "--json").json()["letters"]) == 5, "nothing is done yet"
    done = call("dead", "redrive", "--stage", "understand", "--yes")
    assert (done.code, done.out) == (0, "3 redriven\n")
    assert "1 left: its event can't be read: edit it first" in done.err
    assert [row["letter"] for row in call("dead", "list", "--json").json()["letters"]] == letters[3:]
    audit = [json.loads(json.loads(line)["event"]) for line in call("tail", "audit", "--json").out.splitlines()]
    assert [(line["action"], line["what"]) for line in audit] == [("redrive", name) for name in letters[:3]]
    assert "3" in call("tail", "intake", "-n", "3", "--json").out
    assert call("dead", "redrive", letters[4]).code == 1
    assert call("dead", "redrive", letters[0], "--json").json()["error"]["code"] == "dead.unknown"
    assert call("dead", "drop", "--all", "--yes", "--json").json()["done"] == 2
    assert call("dead", "drop", "--all", letters[0], "--json").json()["error"]["code"] == "dead.which"


def test_a_letter_can_be_corrected_in_an_editor_or_from_a_file(
    cli: Cli, call: Call, letters: list[str], tmp_path: Path
) -> None:
    run = call("dead", "show", letters[1], "--json").json()["run"]
    file = tmp_path / "entry.json"
    file.write_text('{"type": "GoalSubmitted", "event": %s}' % (EVENT % (3, run)))
    assert call("dead", "edit", letters[3], "--file", str(file)).code == 0
    newest = call("dead", "list", "--range", "-1", "--json").json()["letters"][0]["letter"]
    assert call("dead", "redrive", newest).out == "1 redriven\n"
    for wrong in (
        "{",
        '{"type": "Nonsense", "event": {}}',
        '{"type": "GoalSubmitted", "event": %s}' % (EVENT % (1, "x")),
    ):
        file.write_text(wrong)
        assert call("dead", "edit", letters[1], "--file", str(file), "--json").json()["error"]["code"] == "dead.edit"

    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/alpha/gamma/ "$1"\n')
    editor.chmod(0o755)
    assert call("dead", "edit", letters[0], EDITOR=str(editor), VISUAL="").code == 0
    newest = call("dead", "list", "--range", "-1", "--json").json()["letters"][0]
    assert "docs/gamma.txt" in newest["dead"]["event"]
    assert call("dead", "edit", letters[1], "--json", EDITOR="true", VISUAL="").json()["error"]["code"] == (
        "dead.unchanged"
    )


def test_an_editor_or_a_file_that_is_not_there_is_told(call: Call, letters: list[str]) -> None:
    for editor in ("'", "no-such-editor"):
        refused = call("dead", "edit", letters[0], "--json", EDITOR=editor, VISUAL="")
        assert (refused.code, refused.json()["error"]["code"]) == (2, "dead.editor")
    refused = call("dead", "edit", letters[0], "--file", "/no/such/file", "--json")
    assert (refused.code, refused.json()["error"]["code"]) == (2, "dead.edit")


def test_a_range_is_planned_and_with_yes_given_to_its_stage_once_more(cli: Cli, call: Call) -> None:
    with server_of(Path(cli.environ["VICTORIA_STATE_DIR"])) as client:
        client.flushall()
    call("run", "Read docs/alpha.txt")
    call("publish", "Read docs/beta.txt")
    plan = call("redeliver", "understand", "start", "--json").json()
    assert plan == {"stage": "understand", "plan": {"done": 1, "waiting": 1}, "redelivered": 0}
    assert call("redeliver", "understand", "-1", "--json").json()["plan"] == {"waiting": 1}
    people = call("redeliver", "understand", ":end", "--force")
    assert people.out == "1 would be redelivered\n"
    assert "--yes" in people.err
    assert call("redeliver", "understand", ":end", "--force", "--yes").out == "1 redelivered\n"
    assert call("redeliver", "understand", "soon", "--json").json()["error"]["code"] == "range.malformed"
    assert call("redeliver", "nobody", "start", "--json").json()["error"]["code"] == "stage.unknown"


@pytest.mark.heavy
def test_ten_thousand_letters_go_back_each_once_though_it_is_killed_half_way(cli: Cli, record_property: Any) -> None:
    run, count = "redriven", 10_000
    with server_of(Path(cli.environ["VICTORIA_STATE_DIR"])) as client:
        client.flushall()
        client.hset(f"{{victoria:0}}:run:{run}", "submitted", "{}")
        filling = client.pipeline(transaction=False)
        for number in range(count):
            letter = {"stage": "understand", "stream": "intake", "entry": "1-0", "error": {"code": "x", "message": "y"}}
            letter |= {"type": "GoalSubmitted", "event": EVENT % (number, run)}
            filling.xadd("{victoria:0}:dead", {"type": "DeadLetter", "event": json.dumps(letter)})
        filling.execute()
        for left in (7_000, 4_000):
            victim = cli.start("dead", "redrive", "--stage", "understand", "--yes")
            while client.xlen("{victoria:0}:dead") > left:
                time.sleep(0.001)
            victim.process.send_signal(signal.SIGKILL)
            victim.process.wait()
        left, started = client.xlen("{victoria:0}:dead"), time.monotonic()
        assert 0 < left < count
        cli("dead", "redrive", "--stage", "understand", "--yes")
        took = time.monotonic() - started
        entries = client.xrange("{victoria:0}:intake")
        ids = Counter(json.loads(fields[b"event"])["id"] for _, fields in entries)
        assert ids == {f"e{number}": 1 for number in range(count)}
        assert (client.xlen("{victoria:0}:dead"), client.xlen("{victoria:0}:audit")) == (0, count)
    record_property("letters redriven a second, with the start of the command", round(left / took))
