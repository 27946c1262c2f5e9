"""History under fire: whoever writes it and the database itself are killed a hundred times over a loaded run."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from consumers.postgres.database import Database
from consumers.postgres.projector import NAME
from consumers.postgres.rebuild import rebuild
from deploy.embedded import embedded
from deploy.place import Place, listener
from deploy.postgres import POSTGRES
from deploy.wiring import catalogue_topology
from schemas.envelope import decode
from schemas.errors import NotReachable
from schemas.events import GoalSubmitted, RunFinished
from streams.append import Publisher
from streams.connection import Client
from streams.keys import Keys

pytestmark = pytest.mark.heavy

KILLS = int(os.environ.get("KILLS", "100"))
GOALS = 20
"""Goals between two kills."""
GOAL = "List the files in the folder schemas"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def start(tmp_path: Path, redis_url: str, prefix: str) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Starts `victoria` with a database of the test's own; whatever still runs in the end is killed."""
    foreign = ("VICTORIA_", "DATABASE_URL")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | {
        "VICTORIA_REDIS_URL": redis_url,
        "VICTORIA_PREFIX": prefix,
        "VICTORIA_STATE_DIR": str(tmp_path),
        "VICTORIA_MODEL": "none",
        "VICTORIA_HISTORY": "false",
        "VICTORIA_PARTITIONS": "2",
    }
    running: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str) -> "subprocess.Popen[bytes]":
        with (tmp_path / "log").open("ab") as log:
            command = [sys.executable, "-m", "gateway.cli", *arguments]
            running.append(subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log))
        return running[-1]

    yield run
    for process in running:
        process.kill()
        process.wait()


class Counted:
    """What the streams say: entries of all events, runs that ended, and effects in journals."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client: Any = client
        self._keys, self._topology = keys, catalogue_topology()
        self.places = [keys.stream(p, s) for s in self._topology.streams() for p in keys.of_stream(s)]

    async def ended(self) -> int:
        """How many runs have ended so far."""
        found = 0
        for partition in self._keys.of_stream("results"):
            for _, fields in await self._client.xrange(self._keys.stream(partition, "results")):
                found += fields[b"type"] == RunFinished.__name__.encode()
        return found

    async def settled(self) -> bool:
        """Whether all is acknowledged by who writes history."""
        for place in self.places:
            for group in await self._client.xinfo_groups(place):
                if group["name"] == NAME.encode() and (group["pending"] or group["lag"]):
                    return False
        return True

    async def events(self) -> set[str]:
        """The ids of all events."""
        found: set[str] = set()
        for place in self.places:
            for _, fields in await self._client.xrange(place):
                found.add(decode(fields[b"type"].decode(), fields[b"event"]).id)
        return found

    async def effects(self, runs: list[str]) -> int:
        """How many effects the journals of runs have."""
        journals = [await self._client.hkeys(self._keys.journal(run)) for run in runs]
        return sum(not field.endswith(b"!") for journal in journals for field in journal)


async def test_killed_a_hundred_times_history_has_what_the_streams_have(
    client: Client,
    prefix: str,
    tmp_path: Path,
    start: Callable[..., "subprocess.Popen[bytes]"],
    record_property: Callable[[str, object], None],
) -> None:
    keys, chance = Keys(prefix, 2), random.Random(7)
    publisher, counted = Publisher(client, keys), Counted(client, keys)
    folder = tmp_path / "postgres"
    with embedded(folder, program=POSTGRES) as url:
        start("up")
        projectors = [start("worker", NAME) for _ in range(2)]
        runs: list[str] = []
        killed = {"projector": 0, "PostgreSQL": 0}
        for number in range(KILLS):
            new = [f"run-{number}-{each}" for each in range(GOALS)]
            runs += new
            await publisher.publish([(run, GoalSubmitted(goal=GOAL)) for run in new], "intake")
            await anyio.sleep(chance.uniform(0.05, 0.6))
            if number % 3:
                killed["projector"] += 1
                at = chance.randrange(2)
                projectors[at].kill()
                projectors[at].wait()
                projectors[at] = start("worker", NAME)
            else:
                killed["PostgreSQL"] += 1
                if server := _server(folder):
                    os.kill(server, signal.SIGKILL)
            with anyio.fail_after(60):  # it answers, whatever became of its history
                while await counted.ended() < len(runs):
                    await anyio.sleep(0.02)
        with anyio.fail_after(120):
            while not await counted.settled():
                await anyio.sleep(0.1)
        database = Database(url, prefix)
        for _ in range(100):
            try:
                async with database.connection() as connection:
                    ids = {row["id"] for row in await connection.fetch("SELECT id FROM events")}
                    counts = {
                        table: await connection.fetchval(f"SELECT count(*) FROM {table}")
                        for table in ("events", "runs", "answers", "effects")
                    }
                    ended = await connection.fetchval("SELECT count(*) FROM runs WHERE status = 'completed'")
                break
            except NotReachable:
                await anyio.sleep(0.1)
        else:
            raise AssertionError("the database does not come back")
        assert ids == await counted.events()
        assert counts == {
            "events": len(ids),
            "runs": len(runs),
            "answers": len(runs),
            "effects": await counted.effects(runs),
        }
        assert ended == len(runs)
        again = await rebuild(client, keys, catalogue_topology(), database, 60, _unheard)
        assert [each.changed for each in again.tables] == [0, 0, 0]
        await database.close()
    record_property("killed, and nothing lost or twice", f"{killed}, {counts}")


def _server(folder: Path) -> int | None:
    """The database server's process, while it is there."""
    socket = Place(folder).socket()
    return listener(socket) if socket else None


def _unheard(what: str, done: int, total: int) -> None:
    assert done <= total, what
