"""`victoria publish`, `victoria status`: many goals, workers elsewhere, and where each run stands."""

import json
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from deploy.embedded import embedded
from tests.gateway.conftest import Call, Cli, server_of

GOAL = "Read docs/beta.txt"
STAGES = ("understand", "plan", "step-execute", "aggregate")


def test_published_runs_wait_for_workers_and_status_says_so_until_there_are_some(cli: Cli, call: Call) -> None:
    (run,) = call("publish", GOAL).out.split()
    waiting = call("status", run)
    assert f"{run} queued\ngoal  {GOAL}\n" in waiting.out
    assert "waits no worker for understand, plan, step-execute, aggregate, delegate: start" in waiting.out
    assert call("status", run, "--json").json()["run"]["status"] == "queued"

    waiter = cli.start("publish", "--wait", GOAL)
    waiter.until("no worker for understand, plan, step-execute, aggregate, delegate: start them with `victoria up`")
    for stages in (STAGES[:2], STAGES[2:]):
        cli.start("worker", *stages).until(f"ready: {', '.join(stages)} ")
    code, said = waiter.ended()
    assert code == 0
    assert said.endswith("completed\nThis is beta.txt.")

    done = call("status", run)
    assert done.out.startswith(f"{run} completed\ngoal  {GOAL}\n✓ step 1 ok")
    assert done.out.endswith("\nThis is beta.txt.\n")
    assert "method rules · model none" in done.err
    view = call("status", run, "--json").json()["run"]
    assert view["finished"]["output"] == "This is beta.txt.\n"
    assert view["steps"][0]["status"] == "ok"


def test_broken_lines_are_named_by_number_and_the_others_go_on(cli: Cli, call: Call) -> None:
    lines = [
        b'{"goal": "Read docs/alpha.txt"}',
        b"{broken",
        b"",
        b'{"goal": " "}',
        b'{"goal": "x", "project": "nope"}',
        b'{"goal": "x", "gaol": "y"}',
        b'{"goal": "' + b"x" * 70_000 + b'"}',
        b'{"goal": "' + b"x" * 2_000_000 + b'"}',
        b"\xff\xfe",
        b'{"goal": "x", "run_id": "a b"}',
        b'{"goal": "Read docs/beta.txt"}',
    ]
    done = cli("publish", "--stdin", stdin=b"\n".join(lines))
    assert done.code == 1
    assert len(done.out.splitlines()) == 2
    said = {line.split(":")[0]: line for line in done.err.splitlines()}
    codes = {
        "line 2": "line.malformed",
        "line 4": "goal.empty",
        "line 5": "project.unknown",
        "line 6": "line.malformed",
        "line 7": "goal.too_large",
        "line 8": "line.too_large",
        "line 9": "line.malformed",
        "line 10": "line.malformed",
    }
    assert said.keys() == codes.keys()
    assert all(f"[{code}]" in said[line] for line, code in codes.items())

    data = [json.loads(line) for line in cli("publish", "--stdin", "--json", stdin=b"\n".join(lines)).out.splitlines()]
    assert [(row["line"], row["error"]["code"]) for row in data if "error" in row] == [
        (int(line.split()[1]), code) for line, code in codes.items()
    ]
    assert [row["status"] for row in data if "error" not in row] == ["queued", "queued"]


def test_a_run_id_published_twice_is_one_run_and_its_answer_comes_each_time(cli: Cli, call: Call) -> None:
    line = json.dumps({"goal": GOAL, "run_id": "once"})
    assert cli("publish", "--stdin", stdin=f"{line}\n{line}\n").out == "once\nonce\n"
    cli.start("up").until("ready")
    first = cli("publish", "--stdin", "--wait", stdin=line)
    again = cli("publish", "--stdin", "--wait", stdin=f"{line}\n{line}")
    assert first.out == again.out == "once completed\nThis is beta.txt.\n"
    entries = call("tail", "intake", "-n", "1000", "--run", "once", "--json").out.splitlines()
    assert len(entries) == 1
    ends = call("tail", "results", "-n", "1000", "--run", "once", "--json").out.splitlines()
    assert sum(json.loads(end)["type"] == "RunFinished" for end in ends) == 1


def test_each_answer_is_a_report_with_json_and_the_project_and_session_go_for_all_lines(cli: Cli, call: Call) -> None:
    cli.start("up").until("ready")
    stdin = '{"goal": "Read docs/alpha.txt"}\n{"goal": "Read docs/gamma.txt", "session": "mine"}\n'
    done = cli("publish", "--stdin", "--wait", "--json", "--session", "theirs", "--project", "project", stdin=stdin)
    reports = [json.loads(line) for line in done.out.splitlines()]
    assert {report["output"] for report in reports} == {"This is alpha.txt.\n", "This is gamma.txt.\n"}
    entries = [json.loads(line) for line in call("tail", "intake", "-n", "2", "--json").out.splitlines()]
    assert [entry["event"]["body"]["session"] for entry in entries] == ["theirs", "mine"]


def test_what_a_run_may_cost_is_said_by_flags_or_by_settings_for_all(cli: Cli, call: Call) -> None:
    settings = {"VICTORIA_RUN_TOKENS": "5000", "VICTORIA_RUN_CALLS": "7"}

    def limits(*flags: str, **environ: str) -> dict[str, object] | None:
        assert call("publish", GOAL, *flags, VICTORIA_PREFIX="limits", **environ).code == 0
        (entry,) = call("tail", "intake", "-n", "1", "--json", VICTORIA_PREFIX="limits").out.splitlines()
        return json.loads(entry)["event"].get("limits")

    assert limits() is None
    assert limits(**settings) == {"tokens": 5000, "calls": 7}
    assert limits("--tokens", "0", "--calls", "2", **settings) == {"calls": 2}
    before = datetime.now(UTC)
    found = limits("--tokens", "100", "--deadline", "60")
    assert found
    assert found["tokens"] == 100
    left = datetime.fromisoformat(str(found["ends"])) - before
    assert 59 < left.total_seconds() < 90
    refused = call("publish", GOAL, "--deadline", "nan")
    assert (refused.code, "[limits.invalid]" in refused.err) == (2, True)
    lines = b'{"goal": "Read docs/alpha.txt"}\n' * 2
    assert cli("publish", "--stdin", "--tokens", "9", stdin=lines, VICTORIA_PREFIX="limits").code == 0
    entries = call("tail", "intake", "-n", "2", "--json", VICTORIA_PREFIX="limits").out.splitlines()
    assert [json.loads(entry)["event"]["limits"] for entry in entries] == [{"tokens": 9}] * 2


def test_lines_are_published_as_they_come_and_ctrl_c_keeps_them(cli: Cli, call: Call) -> None:
    publisher = cli.start("publish", "--stdin", stdin=subprocess.PIPE)
    assert publisher.process.stdin
    publisher.process.stdin.write('{"goal": "Read docs/alpha.txt", "run_id": "first-of-many"}\n{"goal"')
    publisher.process.stdin.flush()
    publisher.until("first-of-many")
    code, said = publisher.end(signal.SIGINT)
    publisher.process.stdin.close()
    assert code == 130
    assert "what was published is kept (1)" in said
    assert call("status", "first-of-many").code == 0


def test_a_file_and_nothing_at_all_can_be_read_too(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "goals.ndjson"
    file.write_text('{"goal": "Read docs/alpha.txt", "run_id": "of-a-file"}')
    with file.open() as goals:
        code, said = cli.start("publish", "--stdin", stdin=goals.fileno()).ended()
    assert (code, said) == (0, "of-a-file")
    assert cli.start("publish", "--stdin", stdin=subprocess.DEVNULL).ended() == (0, "")


def test_a_full_intake_refuses_single_goals_and_says_when_to_come_back(cli: Cli, call: Call) -> None:
    few = {"VICTORIA_PREFIX": "full", "VICTORIA_BACKLOG": "2"}
    assert [call("publish", GOAL, **few).code for _ in range(2)] == [0, 0]
    full = call("publish", GOAL, **few)
    assert (full.code, full.out) == (1, "")
    assert "error The stream intake is full: 2 entries wait, the limit is 2. [intake.overloaded]" in full.err
    assert "Try again in 1 s" in full.err
    error = call("publish", GOAL, "--json", **few).json()["error"]
    assert (error["code"], error["retry_after"]) == ("intake.overloaded", 1.0)
    assert "! backlog    understand: 2 entries wait (partition 0)" in call("doctor", **few).out
    # Somebody else serves the stage, and is slow.
    server_of(Path(cli.environ["VICTORIA_STATE_DIR"])).zadd("{full:0}:understand:leases", {"elsewhere-1-ab": 1e15})
    run = call("run", GOAL, "--json", **few)
    assert (run.code, run.json()["error"]["code"]) == (1, "intake.overloaded")
    assert len(call("tail", "intake", "--json", **few).out.splitlines()) == 2


def test_many_goals_wait_for_room_at_intake_and_each_gets_in_once(cli: Cli, call: Call) -> None:
    few = {"VICTORIA_PREFIX": "patient", "VICTORIA_BACKLOG": "3"}
    lines = [json.dumps({"goal": GOAL, "run_id": f"patient-{number}"}) for number in range(8)]
    interrupted = cli.start("publish", "--stdin", stdin=subprocess.PIPE, **few)
    assert interrupted.process.stdin
    interrupted.process.stdin.write("\n".join(lines) + "\n")
    interrupted.process.stdin.flush()
    interrupted.until("The stream intake is full: 3 entries wait, the limit is 3. Going on as they get fewer.")
    interrupted.until("patient-2")
    code, said = interrupted.end(signal.SIGINT)
    interrupted.process.stdin.close()
    assert code == 130
    assert "what was published is kept (3)" in said

    patient = cli.start("publish", "--stdin", "--wait", stdin=subprocess.PIPE, **few)
    assert patient.process.stdin
    patient.process.stdin.write("\n".join(lines))
    patient.process.stdin.close()
    patient.until("Going on as they get fewer")
    cli.start("up", stdin=subprocess.DEVNULL, **few).until("ready")
    code, said = patient.ended()
    assert code == 0
    assert sorted(line for line in said.splitlines() if line.endswith(" completed")) == [
        f"patient-{number} completed" for number in range(8)
    ]
    entries = call("tail", "intake", "-n", "100", "--json", **few).out.splitlines()
    assert sorted(json.loads(entry)["event"]["run"] for entry in entries) == [f"patient-{n}" for n in range(8)]


def test_a_server_that_is_full_is_said_to_be(tmp_path: Path, call: Call) -> None:
    state = tmp_path / "state"
    with embedded(state):
        server_of(state).config_set("maxmemory", 1)
        full = call("publish", GOAL, "--json", VICTORIA_STATE_DIR=str(state))
    assert (full.code, full.json()["error"]["code"]) == (5, "server.full")


def test_a_server_that_may_evict_streams_is_warned_of_once(tmp_path: Path, cli: Cli, call: Call) -> None:
    state = tmp_path / "state"
    with embedded(state):
        server = server_of(state)
        server.config_set("maxmemory-policy", "allkeys-lru")
        unlimited = call("doctor", VICTORIA_STATE_DIR=str(state))
        assert "! memory " in unlimited.out
        assert unlimited.code == 0
        server.config_set("maxmemory", "1gb")
        evicting = call("doctor", VICTORIA_STATE_DIR=str(state))
        assert "maxmemory-policy is allkeys-lru: streams can vanish" in evicting.out
        assert evicting.code == 1
        warned = cli("run", GOAL, VICTORIA_STATE_DIR=str(state))
        assert warned.code == 0
        assert warned.err.count("set its maxmemory-policy (allkeys-lru) to noeviction") == 1
        assert warned.err.count('"event": "server.evicts"') == 1
