"""`victoria tasks` and `victoria worker tasks`, from the command line."""

import asyncio
import json
import signal
import time
from typing import Any

import asyncpg
import pytest

from tests.gateway.conftest import Call, Cli

LIST = "List the files in the folder docs"


pytestmark = pytest.mark.usefixtures("kept_database")


def ask(url: str, statement: str) -> Any:
    async def do() -> Any:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    return asyncio.run(do())


def test_a_task_is_added_listed_shown_cancelled_retried_and_done(call: Call) -> None:
    mine = {"VICTORIA_PREFIX": "tasks-one"}
    added = call("tasks", "add", LIST, "--priority", "high", "--json", **mine).json()
    assert (added["status"], added["priority"], added["goal"]) == ("pending", "high", LIST)
    assert added["id"] in call("tasks", "list", "--status", "pending", **mine).out
    assert call("tasks", "cancel", added["id"], "--json", **mine).json()["status"] == "cancelled"
    assert "cancelled" in call("tasks", "show", added["id"], **mine).out
    assert call("tasks", "retry", added["id"], "--json", **mine).json()["status"] == "pending"
    counts = call("tasks", "cycle", "--json", **mine).json()
    assert (counts["assigned"], counts["published"]) == (1, 1)
    assert "0 published" in call("tasks", "cycle", **mine).out
    (row,) = call("tasks", "list", "--json", **mine).json()
    assert (row["status"], row["run"]) == ("running", f"{added['id']}-1")
    assert "as soon as its run" in call("tasks", "cancel", added["id"], **mine).out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["add", " "], "goal.empty"),
        (["add", "x", "--priority", "'; --"], "task.priority"),
        (["add", "x", "--project", "'; --"], "project.unknown"),
        (["add", "x", "--expert", "'; --"], "expert.unknown"),
        (["add", "x", "--capability", "'; --"], "capability.unknown"),
        (["list", "--status", "'; --"], "task.status"),
        (["show", "'; --"], "task.unknown"),
        (["cancel", "'; --"], "task.unknown"),
        (["retry", "'; --"], "task.unknown"),
    ],
)
def test_what_is_unknown_is_named(call: Call, words: list[str], code: str) -> None:
    done = call("tasks", *words, "--json", VICTORIA_PREFIX="tasks-one")
    assert (done.code, json.loads(done.out)["error"]["code"]) == (2, code)


def test_workers_do_what_somebody_waits_for_and_stop_when_told(call: Call, cli: Cli, kept_database: str) -> None:
    prefix = "tasks-two"
    up = cli.start("up", VICTORIA_PREFIX=prefix, DATABASE_URL=kept_database)
    up.until("ready")  # and does not mind that there are no tables yet
    worker = cli.start("worker", "tasks", VICTORIA_PREFIX=prefix)
    worker.until("ready")
    done = call("tasks", "add", LIST, "--wait", VICTORIA_PREFIX=prefix)
    assert (done.code, done.out.split()) == (0, ["alpha.txt", "beta.txt", "gamma.txt"])
    code, text = worker.end(signal.SIGTERM)
    assert (code, "stopped: tasks" in text) == (0, True)
    done = call("tasks", "add", LIST, "--wait", "--json", VICTORIA_PREFIX=prefix).json()
    assert f"-{up.process.pid}-" in done["worker"], "`up` works tasks off as well, where it has a database"


@pytest.mark.heavy
def test_a_worker_that_is_stopped_or_killed_with_the_lock_holds_others_up_no_longer_than_its_lease(
    cli: Cli, kept_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cli.environ, "VICTORIA_PREFIX", "tasks-lock")
    monkeypatch.setitem(cli.environ, "VICTORIA_LEASE", "3")
    cli.start("up").until("ready")
    workers = [cli.start("worker", "tasks") for _ in range(2)]
    for worker in workers:
        worker.until("ready")
    for how in (signal.SIGSTOP, signal.SIGKILL):
        workers[0].process.send_signal(how)
        # As if that were in the midst of a cycle: it has the lock.
        ask(
            kept_database,
            """UPDATE "tasks-lock".leases SET ends = now() + interval '3 seconds', fence = fence + 1""",
        )
        started = time.monotonic()
        assert cli("tasks", "add", LIST, "--wait").code == 0
        assert time.monotonic() - started < 3 + 4, "its lease, and what starting a command takes"
        workers[0].process.send_signal(signal.SIGCONT)
