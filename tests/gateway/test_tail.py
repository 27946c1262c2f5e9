"""`victoria tail`: every stream can be looked at, now and as it goes on."""

import json
import signal
from pathlib import Path

from tests.gateway.conftest import Call, Cli, server_of


def test_every_stream_has_its_entries_and_all_of_them_come_in_order_of_time(cli: Cli, call: Call) -> None:
    run = call("run", "--json", "List the files in the folder docs").json()["run_id"]
    every = [json.loads(line) for line in call("tail", "-n", "100", "--run", run, "--json").out.splitlines()]
    types = {stream: [e["type"] for e in every if e["stream"].endswith(f":{stream}")] for stream in ("intake", "plan")}
    assert types == {"intake": ["GoalSubmitted"], "plan": ["GoalUnderstood"]}
    assert {entry["event"]["run"] for entry in every} == {run}
    ids = [tuple(map(int, entry["id"].split("-"))) for entry in every]
    assert ids == sorted(ids)
    for stream in ("step-execute", "aggregate", "results"):
        alone = call("tail", stream, "-n", "100", "--run", run, "--json").out.splitlines()
        assert [json.loads(line) for line in alone] == [e for e in every if e["stream"].endswith(f":{stream}")]
        assert alone
    assert call("tail", "infer.local").out == ""


def test_for_people_it_is_two_lines_that_fit_with_the_whole_run_id(cli: Cli, call: Call) -> None:
    (run,) = call("publish", "Read docs/beta.txt").out.split()
    head, body = call("tail", "intake", "-n", "1").out.splitlines()
    assert head.endswith(f"  intake  GoalSubmitted  run {run}")
    assert len(head) <= 80
    assert body.strip() == '{"goal":"Read docs/beta.txt","project":"project"}'
    call("publish", "\x1b[31m" + "x" * 5000)
    assert "\x1b" not in call("tail", "intake", "-n", "1").out
    assert max(map(len, call("tail", "intake", "-n", "1").out.splitlines())) <= 200


def test_an_entry_that_is_no_event_is_shown_and_ends_among_the_dead(cli: Cli, call: Call) -> None:
    with server_of(Path(cli.environ["VICTORIA_STATE_DIR"])) as client:
        client.xadd("{victoria:0}:intake", {"type": "Nonsense", "event": "{"})
        client.xadd("{victoria:0}:intake", {"hello": "\xff\x1b[2Jworld"})
    assert "Nonsense" in call("tail", "intake", "-n", "2").out
    assert "\x1b" not in call("tail", "intake", "-n", "2").out
    call("run", "Read docs/beta.txt")  # whose stages meet the nonsense as well
    dead = [json.loads(line) for line in call("tail", "dead", "--json").out.splitlines()]
    assert len(dead) == 2
    assert len(call("tail", "dead").out.splitlines()) == 4
    assert "2 dead letters" in call("doctor").out


def test_follow_goes_on_with_what_comes_and_ends_on_ctrl_c(cli: Cli, call: Call) -> None:
    call("publish", "Read docs/alpha.txt")
    following = cli.start("tail", "intake", "--follow", "--json", "-n", "1")
    assert "docs/alpha.txt" in following.until("GoalSubmitted")
    (run,) = call("publish", "Read docs/gamma.txt").out.split()
    new = json.loads(following.until("docs/gamma.txt"))
    assert (new["type"], new["event"]["run"]) == ("GoalSubmitted", run)
    code, said = following.end(signal.SIGINT)
    assert code == 130
    assert json.loads(said.splitlines()[-1])["error"]["code"] == "interrupted"


def test_a_range_and_filters_choose_what_is_shown(call: Call) -> None:
    run = call("run", "--json", "List the files in the folder docs").json()["run_id"]
    call("publish", "One of a kind")

    def shown(*arguments: str) -> list[tuple[str, str]]:
        entries = [json.loads(line) for line in call("tail", "--json", *arguments).out.splitlines()]
        return [(entry["type"], entry["id"]) for entry in entries]

    every = shown("--range", "start")
    assert shown("--range", "-3") == shown("-n", "3") == every[-3:]
    (_, first), *_, (_, last) = of_run = shown("--run", run, "-r", ":end")
    assert of_run
    assert set(shown("--range", f"{first}:{last}", "--run", run)) == set(of_run)
    assert shown("--range", "@-1h:end") == every
    assert shown("--range", "@:-1h") == shown("--range", "end") == []
    of_type = shown("--type", "StepReady", "-n", "1000")
    assert of_type == [each for each in every if each[0] == "StepReady"]
    assert shown("--stage", "step-execute", "-n", "1000") == shown("step-execute", "-n", "1000") == of_type
    assert shown("--grep", "One .f a kind|nothing", "-n", "1000") == every[-1:]


def test_what_can_not_be_shown_is_refused(call: Call) -> None:
    def code(*arguments: str) -> str:
        done = call("tail", "--json", *arguments)
        assert done.code == 2
        return done.json()["error"]["code"]

    assert code("--range", "yesterday") == "range.malformed"
    assert code("--range", "-5", "-n", "5") == code("--range", ":5-0", "--follow") == "tail.usage"
    assert code("--grep", "(") == "tail.grep"
    assert code("--stage", "nobody") == "stage.unknown"
    assert code("nowhere") == "stream.unknown"
