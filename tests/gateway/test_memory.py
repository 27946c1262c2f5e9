"""`victoria memory` from the command line."""

import asyncio
import json
import signal
import time
from subprocess import DEVNULL

import pytest

from consumers.postgres.database import Database
from consumers.postgres.memories import Memories
from consumers.postgres.migrate import migrate
from schemas.events import MemoryKept
from tests.gateway.conftest import WITHIN, Call, Cli
from tests.memories import AT

MINE = {"VICTORIA_PREFIX": "remembering", "VICTORIA_EMBEDDER": "none", "ALLOWED_PROJECTS": "garden"}


@pytest.fixture(scope="module", autouse=True)
def _remembered(kept_database: str) -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    """Three memories in the command line's embedded database."""

    async def keep(url: str) -> None:
        database = Database(url, MINE["VICTORIA_PREFIX"])
        await migrate(database)
        memories = Memories(database)
        for number, (project, session) in enumerate((("garden", ""), ("garden", "s"), ("garden", "other"))):
            text = f"The roses of {session or 'all'} bloom in June.\x1b[31m"
            await memories.keep(f"m{number}", MemoryKept(text=text, project=project, session=session, tag="fact"), AT)
        await database.close()

    asyncio.run(keep(kept_database))


def test_memories_are_found_listed_and_forgotten(call: Call) -> None:
    found = call("memory", "search", "when do roses bloom?", "--project", "garden", "--json", **MINE).json()
    assert [each["id"] for each in found] == ["m0"]
    found = call("memory", "search", "roses", "--project", "garden", "--session", "s", "--json", **MINE).json()
    assert {each["id"] for each in found} == {"m0", "m1"}
    listed = call("memory", "list", "--project", "garden", **MINE)
    assert all(f"m{number}" in listed.out for number in range(3))
    assert "\x1b[31m" not in listed.out
    assert "trust user" in listed.out
    assert call("memory", "forget", "m2", "--json", **MINE).json() == {"id": "m2", "forgotten": True}
    assert "m2" not in call("memory", "list", "--project", "garden", **MINE).out


def test_a_worker_started_by_hand_keeps_them_in_the_database_that_another_process_runs(cli: Cli, call: Call) -> None:
    kept = {"project": "garden", "tag": "fact", "text": "The greenhouse is watered at dawn."}
    worker = cli.start("worker", "remember", stdin=DEVNULL, **MINE, VICTORIA_HISTORY="true")
    assert call("publish", "--type", "MemoryKept", "--json-body", json.dumps(kept), **MINE).code == 0
    give_up = time.monotonic() + WITHIN
    while "watered at dawn" not in call("memory", "list", "--project", "garden", **MINE).out:
        assert time.monotonic() < give_up
    assert worker.end(signal.SIGTERM)[0] == 0


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("forget", "nobody"), "memory.unknown"),
        (("search", " "), "memory.query"),
        (("list", "--project", "nowhere"), "project.unknown"),
    ],
)
def test_what_can_not_be_is_said(call: Call, command: tuple[str, ...], code: str) -> None:
    done = call("memory", *command, "--json", **MINE)
    assert done.code == 2
    assert done.json()["error"]["code"] == code
