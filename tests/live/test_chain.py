"""A real request through all services that run: `make test-live-chain`.

VICTORIA_URL says where the door is, VICTORIA_TOKEN what lets one in, if anything has to.
"""

import os
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.live

URL = os.environ.get("VICTORIA_URL") or "http://127.0.0.1:8010"
GOAL = "Помоги с анализом данных"
DEPARTMENTS = ("department_heads", "task_distribution")
WITHIN = 1_800.0
"""Seconds in which a run must end, on a slow machine with a small model too."""


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A client of the door; without one there is nothing to test."""
    token = os.environ.get("VICTORIA_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=URL, headers=headers, timeout=WITHIN, trust_env=False) as client:
        try:
            ready = client.get("/readyz", timeout=10)
        except httpx.TransportError as problem:
            pytest.skip(f"nothing runs at {URL} ({problem}): start it with `victoria serve`, or set VICTORIA_URL")
        if ready.status_code != 200:
            pytest.skip(f"not all that is needed runs at {URL}: {ready.text[:500]}")
        yield client


@contextmanager
def somebody_there(client: httpx.Client) -> Generator[None]:
    """Inside, what these runs ask a person is answered: a small model may ask whatever it is told."""
    over = threading.Event()

    def answer() -> None:
        while not over.wait(0.5):
            for asked in client.get("/questions").raise_for_status().json()["questions"]:
                if asked["goal"] == GOAL:
                    said = asked["choices"][-1] if asked["approval"] else "Do as you think best, and finish."
                    client.post(f"/questions/{asked['question_id']}/answer", json={"answer": said})

    answering = threading.Thread(target=answer)
    answering.start()
    try:
        yield
    finally:
        over.set()
        answering.join()


def test_a_sync_request_is_answered(client: httpx.Client) -> None:
    with somebody_there(client):
        answer = client.post("/run", json={"goal": GOAL, "async_mode": 0})
    succeeded(answer)


def test_a_sync_request_through_the_departments_says_so(client: httpx.Client) -> None:
    with somebody_there(client):
        answer = client.post("/orchestrate", json={"goal": GOAL, "async_mode": 0})
    assert succeeded(answer)["method"] in DEPARTMENTS


def test_an_async_request_is_taken_and_ends(client: httpx.Client) -> None:
    with somebody_there(client):
        taken = client.post("/run", json={"goal": GOAL, "unattended": True})
        assert taken.status_code == 202, taken.text
        give_up = time.monotonic() + WITHIN
        while (found := client.get(taken.json()["status_url"]).json())["status"] in ("queued", "running", "waiting"):
            assert time.monotonic() < give_up, found
            time.sleep(0.2)
    assert found["status"] == "completed" or found_nothing(found), found
    assert found["output"].strip()
    assert found["knowledge"]["task_id"] == taken.json()["task_id"]


def found_nothing(said: Any) -> bool:
    """Whether it was the bundled model that got nowhere with tools, and says so: it is too small to judge by."""
    error: dict[str, str] = said.get("error") or {}
    return said["knowledge"]["model"].startswith("SmolLM2") and error.get("code") == "step.no_answer"


def succeeded(answer: httpx.Response) -> Any:
    """The knowledge of a good answer."""
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["status"] == "success" or found_nothing(said), said
    assert said["output"].strip()
    return said["knowledge"]
