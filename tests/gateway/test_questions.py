"""Questions to people outlast every process, and are answered once."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.embedded import find
from deploy.place import listener
from tests.gateway.conftest import WITHIN, Cli, Running
from tests.gateway.test_supervise import gone
from tests.llm.fake_ollama import Body, FakeOllama, Reply

STAGES = ("understand", "plan", "aggregate"), ("step-execute", "clock", "infer.ollama")


async def asks_first(reply: Reply, body: Body) -> None:
    """A model that asks which page, and then says what it heard."""
    said = body["messages"][-1]["content"]
    action = {"tool": "ask_user", "thought": "", "question": "Which page?", "choices": ["X", "Y"]}
    for word, heard in {"answer: X": "Page X.", "Nobody answered": "All pages."}.items():
        if word in said:
            action = {"tool": "finish", "thought": "", "answer": heard}
    await reply.begin()
    await reply.say(json.dumps(action))
    await reply.done()


@pytest.fixture
def own(tmp_path: Path, ollama: FakeOllama) -> Iterator[Cli]:
    """A command line whose server a test may kill."""
    ollama.scripts["/api/chat"] = asks_first
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "victoria.toml").touch()
    cli = Cli(tmp_path / "project", tmp_path / "state")
    cli.environ |= {"VICTORIA_MODEL": "ollama", "OLLAMA_HOSTS": ollama.url}
    yield cli
    for running in cli.running:
        running.process.kill()
        running.process.wait()
        assert running.process.stdout
        running.process.stdout.close()


def up(cli: Cli, *arguments: str) -> list[Running]:
    """All stages in two processes, once they are ready."""
    workers = [cli.start("worker", *stages, *arguments) for stages in STAGES]
    for worker in workers:
        worker.until("ready: ")
    return workers


def down(workers: list[Running]) -> None:
    """Let them end well."""
    assert {worker.end(signal.SIGTERM)[0] for worker in workers} == {0}


def kill_all(cli: Cli, workers: list[Running]) -> None:
    """kill -9 of every process there is: workers, the server's keeper, and the server."""
    state = Path(cli.environ["VICTORIA_STATE_DIR"])
    server = listener(Path((find(state) or "").removeprefix("unix://")))
    assert server
    keeper = int(subprocess.run(["ps", "-o", "ppid=", "-p", str(server)], capture_output=True, check=True).stdout)
    pids = [*(worker.process.pid for worker in workers), keeper, server]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for worker in workers:
        worker.process.wait()
    assert all(gone(pid) for pid in pids)
    assert find(state) is None


def published(cli: Cli) -> str:
    done = cli("publish", "Look what is wrong with the page", "--expert", "veronica", "--strategy", "react")
    assert done.code == 0, done.err
    return done.out.strip()


def waiting(cli: Cli) -> str:
    """Wait for the one question there is; its id."""
    give_up = time.monotonic() + WITHIN
    while time.monotonic() < give_up:
        if found := cli("questions", "--json").json():
            (question,) = found
            assert question["asking"]["question"] == "Which page?"
            return question["asking"]["id"]
    raise AssertionError("nothing is asked")


def ended(cli: Cli, run: str) -> str:
    """Wait for a run's end; its answer."""
    give_up = time.monotonic() + WITHIN
    while time.monotonic() < give_up:
        found = cli("status", run, "--json").json()["run"]
        if found["finished"]:
            assert found["status"] == "completed"
            return found["finished"]["output"]
    raise AssertionError("it does not end")


def refused(cli: Cli, *arguments: str) -> str:
    """The code of the error that an answer leads to."""
    done = cli("answer", *arguments, "--json")
    error = done.json()["error"]
    assert done.code == 2
    assert error["hint"]
    return error["code"]


def test_a_question_outlasts_kill_9_of_every_process_and_is_answered_afterwards(own: Cli) -> None:
    workers = up(own)
    run = published(own)
    question = waiting(own)
    kill_all(own, workers)

    workers = up(own)
    assert waiting(own) == question
    assert refused(own, f"{run}.0123456789ab", "X") == "question.unknown"
    done = own("answer", question, "x")
    assert (done.code, done.out) == (0, f"{run} goes on with step 1\n")
    assert refused(own, question, "Y") == "question.closed"
    assert ended(own, run) == "Page X."
    down(workers)


@pytest.mark.heavy
def test_a_question_whose_time_passes_while_everything_is_dead_is_done_without(own: Cli) -> None:
    workers = up(own, "--set", "question_timeout=5")
    run = published(own)
    question = waiting(own)
    kill_all(own, workers)

    workers = up(own)
    assert ended(own, run) == "All pages."
    assert refused(own, question, "X") == "question.closed"
    down(workers)


def test_an_answer_that_nobody_takes_is_said(own: Cli) -> None:
    workers = up(own)
    run = published(own)
    question = waiting(own)
    shown = own("questions")
    assert shown.out.startswith(
        f"{question}\n  Which page? (X / Y)\n  for step 1 of: Look what is wrong with the page\n"
    )
    assert "victoria answer QUESTION" in shown.err
    assert f"""an answer to 'Which page?': victoria answer {question} "...\"""" in own("status", run).out
    down(workers)
    done = own("answer", question, "X", "--json")
    assert (done.code, done.json()["error"]["code"]) == (3, "question.not_taken")
