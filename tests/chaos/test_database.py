"""PostgreSQL under fire: it, its projectors and its tasks workers are killed a hundred times; runs end meanwhile."""

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from consumers.postgres.database import Database
from consumers.postgres.migrate import migrate
from consumers.postgres.projector import NAME
from consumers.postgres.rebuild import rebuild
from consumers.tasks.table import Tasks
from consumers.tasks.task import NewTask
from consumers.tasks.worker import NAME as TASKS
from deploy.place import Place
from deploy.postgres import POSTGRES
from deploy.wiring import catalogue_topology
from schemas.envelope import decode
from schemas.events import Event, GoalSubmitted, RunFinished
from streams.append import Publisher
from streams.connection import Client
from streams.keys import Keys

pytestmark = pytest.mark.heavy

KILLS = int(os.environ.get("KILLS", "100"))
GOALS, ADDED = 10, 5
"""Goals and tasks between two kills."""
GOAL = "List the files in the folder schemas"
ROOT = Path(__file__).parents[2]


class Server:
    """A PostgreSQL that the test alone starts and kills, with its data in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._place = Place(folder)
        self._socket = self._place.new_socket(POSTGRES.socket)
        self.url = POSTGRES.url(self._socket)
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, and wait for its first answer."""
        with anyio.fail_after(60):
            lock = await anyio.to_thread.run_sync(self._place.lock, "server")  # once all processes of the last are gone
            with (self._place.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(  # noqa: ASYNC220 - a fork takes no time
                    POSTGRES.command(self._socket), cwd=self._place.folder, stdout=log, stderr=log, pass_fds=(lock,)
                )
            os.close(lock)
            while not POSTGRES.answers(self._socket):
                await anyio.sleep(0.02)

    def kill(self) -> None:
        """kill -9 it."""
        if self._process:
            self._process.kill()
            self._process.wait()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A running one."""
    server = Server(tmp_path / "postgres")
    await server.start()
    yield server
    server.kill()


@pytest.fixture
def start(
    tmp_path: Path, redis_url: str, prefix: str, server: Server
) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Starts `victoria`, workers with the test's database; whatever still runs in the end is killed."""
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
            more = {"DATABASE_URL": server.url} if arguments[0] == "worker" else {}
            running.append(subprocess.Popen(command, cwd=ROOT, env=environ | more, stdout=log, stderr=log))
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

    async def runs(self, stream: str, event: type[Event]) -> list[str]:
        """The runs that have an event of this type on a stream, as often as they have one."""
        found: list[str] = []
        for partition in self._keys.of_stream(stream):
            for _, fields in await self._client.xrange(self._keys.stream(partition, stream)):
                if fields[b"type"] == event.__name__.encode():
                    found.append(decode(event.__name__, fields[b"event"]).run)
        return found

    async def end_of(self, runs: Sequence[str]) -> None:
        """Wait until these have ended."""
        with anyio.fail_after(60):
            while not {*runs} <= {*await self.runs("results", RunFinished)}:
                await anyio.sleep(0.05)

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


async def test_killed_a_hundred_times_nothing_is_lost_or_twice_and_runs_end_while_the_database_is_down(
    client: Client,
    prefix: str,
    server: Server,
    start: Callable[..., "subprocess.Popen[bytes]"],
    record_property: Callable[[str, object], None],
) -> None:
    keys, chance = Keys(prefix, 2), random.Random(7)
    publisher, counted = Publisher(client, keys), Counted(client, keys)
    database = Database(server.url, prefix)
    await migrate(database)
    start("up")
    workers = [(name, start("worker", name)) for name in (NAME, TASKS) * 2]
    runs: list[str] = []
    tasks: list[str] = []
    killed = Counter[str]()
    for number in range(KILLS):
        tasks += await Tasks(database).add([NewTask(goal=GOAL, id=f"task-{number}-{n}") for n in range(ADDED)])
        new = [f"run-{number}-{each}" for each in range(GOALS)]
        runs += new
        await publisher.publish([(run, GoalSubmitted(goal=GOAL)) for run in new], "intake")
        await anyio.sleep(chance.uniform(0.05, 0.6))
        if number % 3:
            name, process = workers.pop(chance.randrange(len(workers)))
            process.kill()
            process.wait()
            workers.append((name, start("worker", name)))
            killed[name] += 1
        else:
            server.kill()
            killed["PostgreSQL"] += 1
            late = [f"{run}-while-it-is-down" for run in new]
            runs += late
            await publisher.publish([(run, GoalSubmitted(goal=GOAL)) for run in late], "intake")
            await counted.end_of(late)
            await server.start()
        # As a supervisor does: who was just starting can't without a database.
        workers = [(name, start("worker", name) if it.poll() is not None else it) for name, it in workers]
        await database.close()
    begun = sorted([*runs, *(f"{task}-1" for task in tasks)])
    with anyio.fail_after(120):
        while len(await counted.runs("results", RunFinished)) < len(begun) or not await counted.settled():
            await anyio.sleep(0.1)
        async with database.connection() as connection:
            while await connection.fetchval("SELECT count(*) FROM tasks WHERE finished_at IS NULL"):
                await anyio.sleep(0.1)
    assert sorted({*await counted.runs("intake", GoalSubmitted)}) == begun, "each was begun, and no task again"
    assert sorted(await counted.runs("results", RunFinished)) == begun, "each ended once"
    async with database.connection() as connection:
        ids = {row["id"] for row in await connection.fetch("SELECT id FROM events")}
        counts = {
            table: await connection.fetchval(f"SELECT count(*) FROM {table}")
            for table in ("events", "runs", "answers", "effects", "tasks")
        }
        ended = await connection.fetchval("SELECT count(*) FROM runs WHERE status = 'completed'")
        done = await connection.fetch("SELECT DISTINCT status, attempt, output <> '' AS told FROM tasks")
    assert ids == await counted.events()
    assert counts == {
        "events": len(ids),
        "runs": len(begun),
        "answers": len(begun),
        "effects": await counted.effects(begun),
        "tasks": len(tasks),
    }
    assert ended == len(begun)
    assert [tuple(row) for row in done] == [("completed", 1, True)]
    again = await rebuild(client, keys, catalogue_topology(), database, 60, _unheard)
    assert [each.changed for each in again.tables] == [0, 0, 0]
    await database.close()
    record_property("killed, and nothing lost or twice", f"{dict(killed)}, {counts}")


def _unheard(what: str, done: int, total: int) -> None:
    assert done <= total, what
