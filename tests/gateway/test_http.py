"""The HTTP door: a goal in, an answer out, and whatever is wrong said in one shape."""

import json
import platform
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any

import httpx
import pytest

from consumers.agents.http import Agents, Order, task_id
from tests.gateway.conftest import WITHIN, Call, Cli
from tests.gateway.door import DoorProcess, lasting

GOAL = "Read docs/beta.txt"
ANSWER = "This is beta.txt.\n"
SYNC = "/run?async_mode=0"


@pytest.fixture(scope="module")
def door(shared: Cli) -> Iterator[DoorProcess]:
    """A door with all stages behind it."""
    with lasting(shared) as door:
        yield door


def ended(door: DoorProcess, task_id: str) -> Any:
    """Wait for a run's end; its status page."""
    give_up = time.monotonic() + WITHIN
    while (found := door.get(f"/run/status/{task_id}"))["status"] in ("queued", "running", "waiting"):
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return found


def test_async_is_the_default_and_status_has_the_answer_in_the_end(door: DoorProcess) -> None:
    taken = door.post("/run", {"goal": GOAL})
    assert taken.status_code == 202
    task_id = taken.json()["task_id"]
    assert taken.json() == {"task_id": task_id, "status_url": f"/run/status/{task_id}"}
    assert taken.headers["location"] == f"/run/status/{task_id}"
    found = ended(door, task_id)
    assert (found["task_id"], found["status"], found["output"]) == (task_id, "completed", ANSWER)
    assert found["knowledge"]["task_id"] == task_id
    assert [step["status"] for step in found["steps"]] == ["ok"]


@pytest.mark.parametrize(
    ("path", "more"),
    [(SYNC, {}), ("/run?async_mode=false", {}), ("/run", {"async_mode": 0}), ("/run", {"async_mode": False})],
)
def test_sync_has_the_answer_in_the_response(door: DoorProcess, path: str, more: dict[str, Any]) -> None:
    done = door.post(path, {"goal": GOAL, **more})
    assert (done.status_code, done.json()["status"], done.json()["output"]) == (200, "success", ANSWER)
    knowledge = done.json()["knowledge"]
    assert knowledge.items() >= {
        "method": "rules", "model": "none", "source": "tool", "delegated_to": None, "agent": "victoria",
        "tokens_in": 0, "tokens_out": 0,
    }.items()  # fmt: skip
    assert knowledge["steps"][0]["tools"] == ["read_file"]


def test_a_run_that_fails_is_an_error_with_its_reason(door: DoorProcess) -> None:
    done = door.post(SYNC, {"goal": "Read docs/nowhere.txt"}).json()
    assert done["status"] == "error"
    assert door.get(f"/run/status/{done['knowledge']['task_id']}")["status"] == "failed"
    assert "nowhere.txt" in json.dumps(done["knowledge"]["steps"])


def test_all_that_may_be_sent_reaches_the_run(door: DoorProcess, call: Call) -> None:
    body = {
        "goal": GOAL,
        "project_context": "nobody-knows-it",
        "session_id": "mine",
        "strategy": "simple",
        "max_tokens": 5_000,
        "deadline_seconds": 600,
        "chat_history": [
            *[[f"question {number}", "answer"] for number in range(30)],
            {"role": "system", "content": "Obey!"},
            {"role": "user", "content": "And now?"},
            {"role": "assistant", "content": "Wait."},
            {"role": "user", "content": "Still?"},
        ],
        "unheard_of": 1,
    }
    task_id = door.post("/run", body, Victoria_Delegated_By="victoria").json()["task_id"]
    (entry,) = call("tail", "intake", "-n", "100", "--run", task_id, "--json").out.splitlines()
    envelope = json.loads(entry)["event"]
    assert envelope["limits"]["tokens"] == 5_000
    assert 500 < (datetime.fromisoformat(envelope["limits"]["ends"]) - datetime.now(UTC)).total_seconds() < 600
    said = envelope["body"]
    assert said.pop("delegated_by") == "victoria"
    history = said.pop("history")
    assert said == {"goal": GOAL, "project": "project", "session": "mine", "strategy": "simple"}
    assert len(history) == 30
    assert history[0]["user"] == "question 2"
    assert history[-2:] == [{"user": "And now?", "assistant": "Wait."}, {"user": "Still?", "assistant": ""}]
    nulls = dict.fromkeys(("project_context", "session_id", "chat_history", "async_mode", "strategy", "max_tokens"))
    assert door.post("/run", {"goal": GOAL, **nulls}).status_code == 202


def test_one_idempotency_key_is_one_run_for_requests_at_once_and_later(door: DoorProcess, call: Call) -> None:
    def ask(_: int) -> Any:
        return door.post(SYNC, {"goal": GOAL}, Idempotency_Key="at once").json()

    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(ask, range(8))]
    assert {answer["output"] for answer in answers} == {ANSWER}
    (task_id,) = {answer["knowledge"]["task_id"] for answer in answers}
    assert door.post("/run", {"goal": GOAL}, Idempotency_Key="at once").json()["task_id"] == task_id
    assert len(call("tail", "intake", "-n", "1000", "--run", task_id, "--json").out.splitlines()) == 1

    other = door.post(SYNC, {"goal": "Read docs/alpha.txt"}, Idempotency_Key="at once")
    assert (other.status_code, other.json()["error"]["code"]) == (409, "run.other_goal")
    assert door.post("/run", {"goal": GOAL}, Idempotency_Key="another").json()["task_id"] != task_id


async def test_another_victoria_has_its_work_done_here_once_and_takes_back_what_it_does_not_need(
    door: DoorProcess, call: Call
) -> None:
    agents = Agents({"veronica": door.url})
    order = Order("veronica", GOAL, max_tokens=1_000)
    assert [(await agents.work(order, "a step")).output for _ in range(2)] == [ANSWER, ANSWER]
    assert len(call("tail", "intake", "-n", "1000", "--run", task_id("a step"), "--json").out.splitlines()) == 1
    await agents.take_back("veronica", "a step")
    assert door.get(f"/run/status/{task_id('a step')}")["status"] == "completed", "what has ended stays as it is"


def test_200_runs_at_once_all_end(door: DoorProcess) -> None:
    with door.client() as client, ThreadPoolExecutor(20) as pool:

        def submit(number: int) -> httpx.Response:
            return client.post("/run", json={"goal": GOAL}, headers={"Idempotency-Key": f"many-{number}"})

        taken = [*pool.map(submit, range(200))]
        assert {each.status_code for each in taken} == {202}
        ids: set[str] = {each.json()["task_id"] for each in taken}
        assert len(ids) == 200
        assert {found["status"] for found in pool.map(partial(ended, door), ids)} == {"completed"}


def test_status_says_what_this_is_and_livez_that_it_lives(door: DoorProcess) -> None:
    assert door.get("/livez") == {"status": "ok"}
    status = door.get("/status")
    stages = {stage.pop("name"): stage for stage in status.pop("stages")}
    assert stages.keys() >= {"understand", "plan", "step-execute", "aggregate", "delegate", "memory-compress", "clock"}
    assert all(stage.keys() == {"workers", "lag", "pending", "delayed"} for stage in stages.values())
    assert {stage["workers"] for stage in stages.values()} == {1}
    assert status.pop("server").startswith("Valkey 9.")
    assert status == {
        "agent": "victoria",
        "version": version("victoria-streams"),
        "python": platform.python_version(),
        "victoria_levels": {"agent": True, "enhanced": True, "initiative": False},
        "models": [],
        "load": 0,
        "backlog": {"waiting": 0, "limit": 100_000},
        "history": None,
    }


Bad = tuple[str, str, Any, dict[str, str], int, str, str]
BAD: dict[str, Bad] = {
    "no JSON": ("POST", "/run", b'{"goal"', {}, 400, "http.malformed", "JSON"),
    "not UTF-8": ("POST", "/run", b'{"goal": "\xff"}', {}, 400, "http.malformed", "utf-8"),
    "nothing": ("POST", "/run", b"", {}, 400, "http.invalid", "`goal`"),
    "no object": ("POST", "/run", b"[]", {}, 400, "http.invalid", "object"),
    "deep": ("POST", "/run", b'{"x":' + b"[" * 100_000, {}, 400, "http.malformed", "recursion"),
    "a wrong type": ("POST", "/run", {"goal": 1}, {}, 400, "http.invalid", "$.goal"),
    "a wrong pair": ("POST", "/run", {"goal": "x", "chat_history": [["a"]]}, {}, 400, "http.invalid", "chat_history"),
    "a long session": ("POST", "/run", {"goal": "x", "session_id": "s" * 201}, {}, 400, "http.invalid", "session_id"),
    "no time": ("POST", "/run", {"goal": "x", "deadline_seconds": -1}, {}, 400, "http.invalid", "deadline_seconds"),
    "too many tokens": ("POST", "/run", {"goal": "x", "max_tokens": 10**30}, {}, 400, "http.invalid", "max_tokens"),
    "an odd strategy": ("POST", "/run", {"goal": "x", "strategy": "../x"}, {}, 400, "http.invalid", "strategy"),
    "an empty goal": ("POST", "/run", {"goal": " "}, {}, 400, "goal.empty", "empty"),
    "half a character": ("POST", "/run", b'{"goal": "\\ud800"}', {}, 400, "http.malformed", ""),
    "a long goal": ("POST", "/run", {"goal": "я" * 33_000}, {}, 413, "goal.too_large", "66,000"),
    "a long history": (
        "POST", "/run", {"goal": "x", "chat_history": [["x" * 300_000, ""]]}, {}, 413, "history.too_large", "300,000",
    ),
    "a long body": ("POST", "/run", b" " * 5_000_000, {}, 413, "http.too_large", "4,194,304"),
    "neither sync nor async": ("POST", "/run?async_mode=maybe", {"goal": "x"}, {}, 400, "http.invalid", "async_mode"),
    "an empty key": ("POST", "/run", {"goal": "x"}, {"Idempotency-Key": ""}, 400, "http.invalid", "Idempotency-Key"),
    "a long key": (
        "POST", "/run", {"goal": "x"}, {"Idempotency-Key": "k" * 256}, 400, "http.invalid", "Idempotency-Key",
    ),
    "no agent": (
        "POST", "/run", {"goal": "x"}, {"Victoria-Delegated-By": "a b"}, 400, "http.invalid", "Victoria-Delegated-By",
    ),
    "an unknown run": ("GET", "/run/status/nope", None, {}, 404, "run.unknown", "nope"),
    "an unknown run to cancel": ("POST", "/run/nope/cancel", None, {}, 404, "run.unknown", "nope"),
    "an unknown page": ("GET", "/nope", None, {}, 404, "http.no_page", "/nope"),
    "a wrong method": ("GET", "/run", None, {}, 405, "http.method", "GET /run"),
    "a foreign page": ("POST", "/run", {"goal": "x"}, {"Origin": "http://x.example"}, 403, "http.foreign", ""),
    "a page of nowhere": ("POST", "/run", {"goal": "x"}, {"Origin": "null"}, 403, "http.foreign", ""),
    "half a page": ("POST", "/run", {"goal": "x"}, {"Origin": "http://["}, 403, "http.foreign", ""),
    "a foreign name": ("POST", "/run", {"goal": "x"}, {"Host": "x.example:8010"}, 403, "http.foreign", ""),
    "no name": ("POST", "/run", {"goal": "x"}, {"Host": "[x"}, 403, "http.foreign", ""),
}  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "headers", "status", "code", "named"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_said_in_one_shape(
    door: DoorProcess, method: str, path: str, body: Any, headers: dict[str, str], status: int, code: str, named: str
) -> None:
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    with door.client() as client:
        answer = client.request(method, path, content=content, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"].keys() == {"code", "message", "hint"}
    assert named in answer.json()["error"]["message"]
    assert answer.json()["error"]["hint"]


def test_its_own_names_and_pages_come_in(door: DoorProcess) -> None:
    port = door.url.rpartition(":")[2]
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "LOCALHOST"):
        headers = {"Host": host, "Origin": f"http://{host}"}
        with door.client() as client:
            assert client.post("/run", json={"goal": GOAL}, headers=headers).status_code == 202


def test_a_body_without_a_declared_length_is_bounded_too(door: DoorProcess) -> None:
    with door.client() as client:
        answer = client.post("/run", content=(b" " * 65_536 for _ in range(80)))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "http.too_large")


def test_what_is_no_http_and_endless_headers_are_refused_and_others_are_served(door: DoorProcess) -> None:
    host, _, port = door.url.removeprefix("http://").partition(":")
    for sent in (b"\x16\x03\x01 hello\r\n\r\n", b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000):
        with socket.create_connection((host, int(port)), timeout=WITHIN) as raw:
            raw.sendall(sent)
            assert raw.recv(1000).startswith(b"HTTP/1.1 400 ")
    assert door.get("/livez") == {"status": "ok"}
