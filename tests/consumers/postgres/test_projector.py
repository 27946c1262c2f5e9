"""What is said on streams comes to the database once and whole, whoever is killed, and whatever somebody puts there."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from consumers.postgres.database import Database
from consumers.postgres.packing import unpacked
from consumers.postgres.projector import NAME, Projector
from schemas.envelope import Envelope, encode
from schemas.errors import ErrorInfo
from schemas.events import (
    Event,
    GoalSubmitted,
    GoalUnderstood,
    Metadata,
    PlanProposed,
    RunFinished,
    StepFinished,
    StepReady,
)
from schemas.plan import Plan, Step
from streams.connection import Client
from streams.journal import Record
from streams.keys import Keys
from streams.retention import Keep, Retention
from streams.stage import Stage
from streams.topology import Topology

NOW = datetime.now(UTC).replace(microsecond=5000)
ROOT = Path(__file__).parents[3]
STEP = Step("s1", "look", "Look around.")
END = RunFinished(
    status="completed",
    output="done \0",
    method="react",
    metadata=Metadata("m", "model", None, 3, 4, 0.5, ()),
    stages=(),
    error=ErrorInfo("run.limit", "enough"),
)
SAID: tuple[tuple[str, Event], ...] = (
    ("intake", GoalSubmitted(goal="a \0 goal", session="s" * 3_000)),
    ("plan", GoalUnderstood(restated="the goal", category="simple", kind="fast")),
    ("aggregate", PlanProposed(restated="the goal", plan=Plan("react", (STEP,)))),
    ("step-execute", StepReady(step=STEP, goal="the goal")),
    ("aggregate", StepFinished(step_id="s1", status="ok", output="found", tools=("read_file",))),
    ("results", END),
)
TABLES = {
    "runs": "id",
    "steps": "run, id",
    "answers": "run",
    "events": "at, id",
    "effects": "at, run, effect",
}
PROJECT = """
import asyncio, sys
from consumers.postgres.database import Database
from consumers.postgres.packing import unpacked
from consumers.postgres.projector import Projector
from streams.connection import connect
from streams.keys import Keys
from tests.consumers.postgres.test_projector import streams
redis_url, database_url, prefix = sys.argv[1:]
asyncio.run(Projector(connect(redis_url), Keys(prefix, 2), streams(), Database(database_url, prefix)).run())
"""


def streams() -> Topology:
    """The streams these events come on, with stages that are never run."""

    async def nothing(*_: object) -> list[Event]:
        return []

    def stage(reads: str, *accepts: type[Event]) -> Stage[Any, Any]:
        return Stage(f"{reads}-stage", accepts, (), nothing, reads)

    return Topology(
        stages=(
            stage("intake", GoalSubmitted),
            stage("plan", GoalUnderstood),
            stage("step-execute", StepReady),
            stage("aggregate", PlanProposed, StepFinished),
        ),
        entries=dict.fromkeys((GoalSubmitted, GoalUnderstood, StepReady, PlanProposed, StepFinished), "intake"),
        results=frozenset({RunFinished}),
    )


async def say(client: Client, keys: Keys, runs: int, first: int = 0, at: datetime = NOW) -> None:
    """Put the events of some runs on their streams, and an effect of each into its journal."""
    record = msgspec.json.encode(Record("ask", "hash", at, msgspec.Raw(b'"yes"'), seconds=0.5))
    pipeline: Any = client.pipeline(transaction=False)
    for number in range(first, first + runs):
        run = f"run-{number}"
        pipeline.hset(
            keys.journal(run), mapping={"e/ask": record, "e/ask!": b"intent"} | ({} if number else {"e/bad": b"{"})
        )
        for place, (stream, event) in enumerate(SAID):
            data = encode(Envelope(f"{run}-{place}", run, event.version, at, "user", event))
            pipeline.xadd(keys.stream(keys.of_run(run), stream), {"type": type(event).__name__, "event": data})
    await pipeline.execute()


async def contents(database: Database) -> dict[str, list[Any]]:
    async with database.connection() as connection:
        return {
            table: [dict(row) for row in await connection.fetch(f"SELECT * FROM {table} ORDER BY {order}")]
            for table, order in TABLES.items()
        }


async def count(database: Database, table: str) -> int:
    async with database.connection() as connection:
        return await connection.fetchval(f"SELECT count(*) FROM {table}")


@asynccontextmanager
async def projecting(*projectors: Projector) -> AsyncGenerator[None]:
    async with anyio.create_task_group() as tasks:
        for projector in projectors:
            await tasks.start(projector.run)
        yield
        for projector in projectors:
            projector.stop()


async def settled(client: Client, keys: Keys) -> bool:
    """Whether all that is on the streams is acknowledged."""
    raw: Any = client
    for stream in streams().streams():
        for partition in keys.of_stream(stream):
            for group in await raw.xinfo_groups(keys.stream(partition, stream)):
                if group["name"] == NAME.encode() and (group["pending"] or group["lag"]):
                    return False
    return True


async def until_settled(client: Client, keys: Keys) -> None:
    with anyio.fail_after(30):
        while not await settled(client, keys):
            await anyio.sleep(0.01)


@pytest.fixture
def keys(prefix: str) -> Keys:
    return Keys(prefix, 2)


async def test_a_runs_events_become_its_row_its_steps_its_answer_and_its_history(
    client: Client, keys: Keys, database: Database
) -> None:
    async with projecting(Projector(client, keys, streams(), database)):
        await say(client, keys, 1)
        await until_settled(client, keys)
    found = await contents(database)
    (run,), (step,), (answer,), (effect,) = (found[each] for each in ("runs", "steps", "answers", "effects"))
    assert (run["goal"], run["restated"], run["strategy"], run["status"]) == (
        "a \ufffd goal",
        "the goal",
        "react",
        "completed",
    )
    assert run["submitted_at"] == run["finished_at"] == NOW
    assert run["error"] == {"code": "run.limit", "message": "enough"}
    assert (step["title"], step["status"], step["output"], step["tools"]) == ("look", "ok", "found", ["read_file"])
    assert (answer["output"], answer["metadata"]["tokens_out"]) == ("done \ufffd", 4)
    assert (effect["effect"], effect["seconds"]) == ("e/ask", 0.5)
    assert [event["type"] for event in found["events"]] == [type(event).__name__ for _, event in SAID]
    first = found["events"][0]
    assert b"a \\u0000 goal" in unpacked(first["packing"], first["data"]), "as it was said"


async def test_in_whatever_order_and_however_often_it_comes_to_the_same(
    client: Client, keys: Keys, database: Database
) -> None:
    await say(client, keys, 3)
    async with projecting(Projector(client, keys, streams(), database)):
        await until_settled(client, keys)
    first = await contents(database)
    async with database.connection() as connection:
        await connection.execute("TRUNCATE runs, steps, answers, events, effects")
    for stream in reversed(streams().streams()):  # one stream after the other, in the least natural order, and twice
        for partition in keys.of_stream(stream) * 2:
            await client.xgroup_setid(keys.stream(partition, stream), NAME, "0")
            async with projecting(Projector(client, keys, streams(), database)):
                await until_settled(client, keys)
    assert await contents(database) == first


async def test_garbage_and_far_off_times_hold_up_nothing(client: Client, keys: Keys, database: Database) -> None:
    raw: Any = client
    stream = keys.stream("0", "intake")
    for fields in ({"x": b"\xff"}, {"type": "GoalSubmitted", "event": b"{"}, {"type": "Nonsense", "event": b"{}"}):
        await raw.xadd(stream, fields)
    for number, at in enumerate((datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))):
        event = encode(Envelope("\0" * 3_000, f"\0{number}", 1, at, "user", GoalSubmitted(goal="x")))
        await raw.xadd(stream, {"type": "GoalSubmitted", "event": event})
    await say(client, keys, 1)
    async with projecting(Projector(client, keys, streams(), database)):
        await until_settled(client, keys)
    assert await count(database, "events_rest") == 2
    assert await count(database, "runs") == 3


async def test_what_lay_far_off_moves_into_its_week_when_that_comes(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO events VALUES ('2031-01-07 00:00+00', 'e', 'r', 't', 's', '1-1', 0, '');"
            "SELECT make_partitions('events', '2031-01-01', '2031-01-20')"
        )
        assert await connection.fetchval("SELECT tableoid::regclass::text FROM events WHERE id = 'e'") == (
            "events_20310106"
        )
        assert await connection.fetchval("SELECT make_partitions('events', '2031-01-01', '2031-01-20')") == 0


async def test_one_projects_and_another_takes_over(client: Client, keys: Keys, database: Database) -> None:
    one, other = (Projector(client, keys, streams(), database) for _ in range(2))
    async with projecting(one, other):
        await say(client, keys, 2)
        await until_settled(client, keys)
        assert sorted((one.written, other.written)) == [0, 2 * len(SAID)]
        (one if one.written else other).stop()
        await say(client, keys, 2, first=2)
        await until_settled(client, keys)
    assert one.written == other.written == 2 * len(SAID)
    assert await count(database, "runs") == 4


async def test_killed_again_and_again_nothing_is_lost_and_nothing_twice(
    client: Client, keys: Keys, database: Database, redis_url: str, prefix: str
) -> None:
    command = [sys.executable, "-c", PROJECT, redis_url, database.url, prefix]
    runs = 0
    for _ in range(2):
        process = subprocess.Popen(  # noqa: ASYNC220 - it does not wait
            command, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        before = await count(database, "events")
        await say(client, keys, 200, first=runs)
        runs += 200
        with anyio.fail_after(60):
            while await count(database, "events") == before:
                assert process.poll() is None
                await anyio.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    async with projecting(Projector(client, keys, streams(), database)):
        await until_settled(client, keys)
    assert await count(database, "events") == runs * len(SAID)
    assert await count(database, "runs") == await count(database, "answers") == await count(database, "effects") == runs


async def test_what_is_not_projected_yet_is_not_trimmed(client: Client, keys: Keys, database: Database) -> None:
    topology = streams()
    raw: Any = client
    projector = Projector(client, keys, topology, database)
    async with projecting(projector):
        pass
    await say(client, keys, 5)
    retention = Retention(client, keys, topology, "worker", Keep(seconds=0.001, entries=1))
    for partition in ("0", "1"):
        await retention.trim(partition)
    lengths = [await raw.xlen(keys.stream(p, "results")) for p in ("0", "1")]
    assert sum(lengths) == 5
    async with projecting(Projector(client, keys, topology, database)):
        await until_settled(client, keys)
    await anyio.sleep(0.01)
    for partition in ("0", "1"):
        await retention.trim(partition)
    assert sum([await raw.xlen(keys.stream(p, "results")) for p in ("0", "1")]) == 0


@pytest.mark.heavy
async def test_a_journal_goes_only_once_it_is_archived_with_what_came_late(
    client: Client, keys: Keys, database: Database
) -> None:
    raw: Any = client
    late = msgspec.json.encode(Record("ask", "late", NOW, msgspec.Raw(b'"late"')))
    runs = [f"run-{number}" for number in range(3)]
    await say(client, keys, 3)
    await raw.hset(keys.run(keys.of_run("run-2"), "run-2"), "submitted", "it goes on")
    for run in runs:
        await raw.pexpire(keys.journal(run), 60_000)
    projector = Projector(client, keys, streams(), database, keep=0.2)
    async with projecting(projector):
        await until_settled(client, keys)
        assert [await raw.pttl(keys.journal(run)) for run in runs] == [-1] * 3, "nothing goes by itself"
    await raw.hset(keys.journal("run-1"), "e/late", late)
    await anyio.sleep(0.2)
    async with projecting(Projector(client, keys, streams(), database, keep=0.2)):
        with anyio.fail_after(30):
            while await raw.exists(keys.journal("run-0")) or await raw.exists(keys.journal("run-1")):
                await anyio.sleep(0.01)
    assert [each["effect"] for each in (await contents(database))["effects"] if each["run"] == "run-1"] == [
        "e/ask",
        "e/late",
    ]
    assert await raw.hlen(keys.journal("run-2")) == 2, "it goes on"
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT array_agg(run) FROM journals") == [b"run-2"]


async def test_the_archive_forgets_whole_weeks_but_nothing_that_is_on_the_streams(
    client: Client, keys: Keys, database: Database
) -> None:
    old, raw = NOW - timedelta(days=30), client
    await say(client, keys, 2)
    await say(client, keys, 2, first=2, at=old)
    projector = Projector(client, keys, streams(), database, keep_archive=86_400 * 10)
    async with projecting(projector):
        await until_settled(client, keys)
    async with database.connection() as connection:
        await projector.forget(connection)
    assert await count(database, "runs") == 2
    assert await count(database, "events") == 2 * len(SAID)
    eager = Projector(client, keys, streams(), database, keep_archive=-86_400 * 30)
    async with database.connection() as connection:
        assert await eager.forget(connection) == 0, "it is on the streams"
        for stream in streams().streams():
            for partition in keys.of_stream(stream):
                await raw.delete(keys.stream(partition, stream))
        assert await eager.forget(connection) > 0
    assert await count(database, "runs") == await count(database, "events") == 0


async def test_a_new_database_gets_all_that_is_on_the_streams(client: Client, keys: Keys, database: Database) -> None:
    await say(client, keys, 3)
    async with projecting(Projector(client, keys, streams(), database)):
        await until_settled(client, keys)
    async with database.connection() as connection:
        await connection.execute("TRUNCATE runs, steps, answers, events, effects, journals, positions")
    async with projecting(Projector(client, keys, streams(), database)):
        with anyio.fail_after(30):
            while await count(database, "events") < 3 * len(SAID):
                await anyio.sleep(0.01)
    assert await count(database, "runs") == 3
