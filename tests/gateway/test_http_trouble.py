"""The HTTP door when things go wrong: clients that leave, kill -9, nobody at work, a full or absent server."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.valkey import server_binary
from tests.gateway.conftest import WITHIN, Call, Cli, server_of
from tests.gateway.door import start
from tests.gateway.test_http import ANSWER, GOAL, SYNC, ended
from tests.servers import Node

STAGES = ("understand", "plan", "step-execute", "aggregate")


def until(holds: Callable[[], object]) -> None:
    """Wait for a condition."""
    give_up = time.monotonic() + WITHIN
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def entries(call: Call, task_id: str, stream: str) -> int:
    """How many entries of a run a stream has."""
    return len(call("tail", stream, "-n", "1000", "--run", task_id, "--json").out.splitlines())


def test_without_workers_a_run_is_queued_says_why_and_can_be_cancelled(cli: Cli) -> None:
    door = start(cli, "--alone", VICTORIA_PREFIX="nobody")
    task_id = door.post("/run", {"goal": GOAL}).json()["task_id"]
    queued = door.get(f"/run/status/{task_id}")
    assert (queued["status"], queued["output"], queued["knowledge"]) == ("queued", None, None)
    assert "no worker for understand, plan, step-execute, aggregate" in queued["waits_for"]

    cli.start("worker", "aggregate", VICTORIA_PREFIX="nobody").until("ready")
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(door.post, SYNC, {"goal": GOAL}, Idempotency_Key="cancelled")
        until(lambda: door.get("/status")["load"] == 1)
        waited = door.post("/run", {"goal": GOAL}, Idempotency_Key="cancelled").json()["task_id"]
        assert door.post(f"/run/{waited}/cancel", {"reason": "Enough."}).status_code == 200
        answer = waiter.result()
    assert (answer.status_code, answer.json()["status"]) == (200, "error")
    assert answer.json()["error"]["message"] == "Enough."
    cancelled = door.post(f"/run/{task_id}/cancel", None)
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert door.post(f"/run/{task_id}/cancel", None).json() == cancelled.json(), "again, nothing changes"


def test_a_client_that_goes_away_does_not_end_its_run(cli: Cli) -> None:
    door = start(cli, "--alone", VICTORIA_PREFIX="leaving")
    with door.client() as client, pytest.raises(httpx.ReadTimeout):
        client.post(SYNC, json={"goal": GOAL}, headers={"Idempotency-Key": "leaving"}, timeout=0.5)
    until(lambda: door.get("/status")["load"] == 0)  # nothing waits for it here any more
    task_id = door.post("/run", {"goal": GOAL}, Idempotency_Key="leaving").json()["task_id"]
    assert door.get(f"/run/status/{task_id}")["status"] == "queued"
    cli.start("worker", *STAGES, VICTORIA_PREFIX="leaving").until("ready")
    assert ended(door, task_id)["output"] == ANSWER


def test_after_kill_9_in_mid_run_the_same_request_again_is_the_same_run(cli: Cli, call: Call) -> None:
    """The worker of `plan` is frozen, so the run stands in the middle while its door dies."""
    worker = cli.start("worker", "plan", "--set", "lease=600")
    worker.until("ready")
    worker.process.send_signal(signal.SIGSTOP)
    door = start(cli)
    port = int(door.url.rpartition(":")[2])
    failed = list[httpx.TransportError]()

    def ask() -> None:
        try:
            door.post(SYNC, {"goal": GOAL}, Idempotency_Key="killed")
        except httpx.TransportError as problem:
            failed.append(problem)

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: door.get("/status")["load"] == 1)
    task_id = door.post("/run", {"goal": GOAL}, Idempotency_Key="killed").json()["task_id"]
    until(lambda: entries(call, task_id, "plan") == 1)
    door.kill()
    asking.join()
    assert failed

    again = start(cli, port=port)
    worker.process.send_signal(signal.SIGCONT)
    answer = again.post(SYNC, {"goal": GOAL}, Idempotency_Key="killed").json()
    assert (answer["output"], answer["knowledge"]["task_id"]) == (ANSWER, task_id)
    assert entries(call, task_id, "intake") == 1


@pytest.mark.heavy
def test_many_runs_of_two_doors_of_which_one_is_killed_under_load_are_one_each(cli: Cli, call: Call) -> None:
    doors = [start(cli) for _ in range(2)]

    def ask(number: int) -> Any:
        for attempt in range(50):
            try:
                answer = doors[(number + attempt) % 2].post(SYNC, {"goal": GOAL}, Idempotency_Key=f"pair-{number}")
            except httpx.TransportError:
                continue
            if answer.status_code == 200:
                return answer.json()
        raise AssertionError("nobody answers")

    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(ask, number) for number in range(120)]
        until(lambda: sum(each.done() for each in asked) > 20)
        doors[0].kill()
        answers = [each.result() for each in asked]
    assert {answer["output"] for answer in answers} == {ANSWER}
    ids = {answer["knowledge"]["task_id"] for answer in answers}
    assert len(ids) == 120
    said = map(json.loads, call("tail", "results", "-n", "100000", "--json").out.splitlines())
    ends = [entry["event"]["run"] for entry in said if entry["type"] == "RunFinished"]
    assert {task_id: ends.count(task_id) for task_id in ids} == dict.fromkeys(ids, 1)


def test_a_door_that_is_told_to_stop_says_so_to_who_waits(cli: Cli) -> None:
    door = start(cli, "--alone", VICTORIA_PREFIX="stopping")
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(door.post, SYNC, {"goal": GOAL})
        until(lambda: door.get("/status")["load"] == 1)
        began = time.monotonic()
        code, said = door.running.end(signal.SIGTERM)
        answer = waiter.result()
    assert (code, said.splitlines()[-1]) == (0, "stopped")
    assert time.monotonic() - began < 5
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "http.stopping")
    assert answer.headers["retry-after"] == "1"


def test_a_full_intake_is_503_with_retry_after(cli: Cli) -> None:
    door = start(cli, "--alone", VICTORIA_PREFIX="full-door", VICTORIA_BACKLOG="2")
    assert [door.post("/run", {"goal": GOAL}).status_code for _ in range(2)] == [202, 202]
    full = door.post("/run", {"goal": GOAL})
    assert (full.status_code, full.json()["error"]["code"]) == (503, "intake.overloaded")
    assert full.headers["retry-after"] == "1"


def test_while_its_server_is_away_all_is_503_and_then_it_goes_on(cli: Cli, tmp_path: Path) -> None:
    server = Node(server_binary(), tmp_path / "server")
    server.start()
    try:
        door = start(cli, "--alone", "--redis-url", server.url)
        with ThreadPoolExecutor(1) as pool:
            waiter = pool.submit(door.post, SYNC, {"goal": GOAL}, Idempotency_Key="away")
            until(lambda: door.get("/status")["load"] == 1)
            time.sleep(1.1)  # the server writes its log once a second
            server.kill()
            asked = [waiter.result(), door.post("/run", {"goal": GOAL}), door.post("/run/x/cancel", None)]
        for answer in asked:
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "server.unreachable")
        assert door.get("/livez") == {"status": "ok"}
        server.start()
        cli.start("worker", *STAGES, "--redis-url", server.url).until("ready")
        assert door.post(SYNC, {"goal": GOAL}, Idempotency_Key="away").json()["output"] == ANSWER
    finally:
        server.kill()


def test_another_agent_is_named_and_one_that_is_not_there_refused(cli: Cli, call: Call) -> None:
    door = start(cli, VICTORIA_AGENT="veronica", VICTORIA_PREFIX="veronica")
    assert door.get("/status")["agent"] == "veronica"
    assert door.post(SYNC, {"goal": GOAL}).json()["knowledge"]["agent"] == "veronica"
    wrong = call("serve", "--port", "0", VICTORIA_AGENT="veronika")
    assert (wrong.code, wrong.out) == (2, "")
    assert "[expert.unknown]\nhint  Did you mean veronica?" in wrong.err


def test_a_port_that_is_taken_and_a_host_that_is_open_to_others_are_refused(call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = call("serve", "--port", port)
    assert done.code == 3
    assert "[http.port]\nhint  Choose another port" in done.err
    for host in ("0.0.0.0", "::"):
        done = call("serve", "--host", host, "--port", "0")
        assert (done.code, "[http.open]" in done.err, "victoria token create" in done.err) == (2, True, True)
    assert call("serve", "--host", "nowhere.invalid").code == 3


def test_a_bug_is_500_without_its_inner_life_and_is_logged(cli: Cli) -> None:
    door = start(cli, "--alone", VICTORIA_PREFIX="broken")
    task_id = door.post("/run", {"goal": GOAL}).json()["task_id"]
    server_of(Path(cli.environ["VICTORIA_STATE_DIR"])).hset(f"{{broken:0}}:run:{task_id}", "aggregate", "{")
    with door.client() as client:
        answer = client.get(f"/run/status/{task_id}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "bug")
    door.running.until('"event": "http.server"')
    assert door.get("/livez") == {"status": "ok"}
