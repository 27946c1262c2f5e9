"""Read models are found again from the archive and the streams alone, to the byte, whatever goes on meanwhile."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from consumers.postgres.database import Database, shadow_of
from consumers.postgres.projector import Projector
from consumers.postgres.rebuild import Rebuild, rebuild, tidy
from schemas.errors import CouldNotStart
from streams.connection import Client
from streams.keys import Keys
from tests.consumers.postgres.test_projector import (
    ROOT,
    SAID,
    contents,
    count,
    projecting,
    say,
    streams,
    until_settled,
)
from tests.workshop import eventually

REBUILD = """
import asyncio, sys
from consumers.postgres import rebuild
from consumers.postgres.database import Database
from streams.connection import connect
from streams.keys import Keys
from tests.consumers.postgres.test_projector import streams
redis_url, database_url, prefix = sys.argv[1:]
rebuild.AT_ONCE = 20
def tell(what, done, total):
    print(what, done, flush=True)
asyncio.run(rebuild.rebuild(connect(redis_url), Keys(prefix, 2), streams(), Database(database_url, prefix), 60, tell))
"""


@pytest.fixture
def keys(prefix: str) -> Keys:
    return Keys(prefix, 2)


@pytest.fixture(autouse=True)
async def _nothing_left(database: Database) -> AsyncIterator[None]:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    yield
    assert not await left(database)


async def left(database: Database) -> bool:
    """Whether there is a schema of a rebuild."""
    async with database.connection() as connection:
        schema = shadow_of(database.schema)
        return await connection.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema)


async def rebuilt(client: Client, keys: Keys, database: Database) -> Rebuild:
    def tell(what: str, done: int, total: int) -> None:
        assert 0 < done <= total, what

    return await rebuild(client, keys, streams(), database, 60, tell)


async def projected(client: Client, keys: Keys, database: Database, runs: int) -> None:
    await say(client, keys, runs)
    async with projecting(Projector(client, keys, streams(), database)):
        await until_settled(client, keys)


async def drop_streams(client: Client, keys: Keys) -> None:
    for stream in streams().streams():
        for partition in keys.of_stream(stream):
            await client.delete(keys.stream(partition, stream))


async def test_what_was_lost_or_altered_comes_back_to_the_byte(client: Client, keys: Keys, database: Database) -> None:
    await projected(client, keys, database, 20)
    await drop_streams(client, keys)
    whole = await contents(database)
    same = await rebuilt(client, keys, database)
    assert [(each.rows, each.changed, each.before == each.after) for each in same.tables] == [(20, 0, True)] * 3
    assert same.events == 20 * len(SAID)
    async with database.connection() as connection:
        await connection.execute(
            "DELETE FROM answers; DELETE FROM steps WHERE run > 'run-2';"
            "UPDATE runs SET goal = 'other' WHERE id = 'run-3'; INSERT INTO runs (id) VALUES ('stray')"
        )
    again = await rebuilt(client, keys, database)
    assert await contents(database) == whole
    assert [each.after for each in again.tables] == [each.after for each in same.tables]
    assert [each.before != each.after for each in again.tables] == [True] * 3
    assert {each.table: each.changed for each in again.tables}["runs"] == 2


async def test_what_nobody_has_projected_yet_is_taken_from_the_streams(
    client: Client, keys: Keys, database: Database
) -> None:
    await projected(client, keys, database, 5)
    whole = await contents(database)
    async with database.connection() as connection:
        await connection.execute("TRUNCATE runs, steps, answers, events, effects, journals")
    found = await rebuilt(client, keys, database)
    assert found.events == 5 * len(SAID)
    assert await contents(database) == whole


async def test_it_is_safe_beside_a_projector(client: Client, keys: Keys, database: Database) -> None:
    await projected(client, keys, database, 200)
    async with projecting(Projector(client, keys, streams(), database)):
        async with anyio.create_task_group() as tasks:

            async def more() -> None:
                for part in range(20):
                    await say(client, keys, 20, first=200 + part * 20)

            tasks.start_soon(more)
            for _ in range(3):
                await rebuilt(client, keys, database)
                assert await count(database, "runs") >= 200
        await until_settled(client, keys)
    assert await count(database, "runs") == await count(database, "answers") == await count(database, "steps") == 600
    assert {each.changed for each in (await rebuilt(client, keys, database)).tables} == {0}


async def test_killed_in_the_middle_it_leaves_what_was_there_and_begins_anew(
    client: Client, keys: Keys, database: Database, redis_url: str, prefix: str
) -> None:
    await projected(client, keys, database, 60)
    whole = await contents(database)
    await drop_streams(client, keys)
    command = [sys.executable, "-c", REBUILD, redis_url, database.url, prefix]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert process.stdout
    with anyio.fail_after(60):
        while b"events 60" not in await process.stdout.readline():
            assert process.returncode is None
        process.send_signal(signal.SIGKILL)
        await process.wait()
    assert await contents(database) == whole
    assert await left(database)
    async with database.connection() as connection:

        async def tidied() -> bool:  # once its server has noticed
            return await tidy(connection, database.schema)

        await eventually(tidied, 30)
    assert not await left(database)
    async with projecting(Projector(client, keys, streams(), database)):
        await say(client, keys, 5, first=60)
        await until_settled(client, keys)
    found = await rebuilt(client, keys, database)
    assert [(each.rows, each.changed) for each in found.tables] == [(65, 0)] * 3


async def test_two_at_once_are_one(client: Client, keys: Keys, database: Database) -> None:
    await projected(client, keys, database, 50)
    outcomes: list[Any] = await asyncio.gather(
        *(rebuilt(client, keys, database) for _ in range(2)), return_exceptions=True
    )
    refused = [each for each in outcomes if isinstance(each, CouldNotStart)]
    assert [each.info.code for each in refused] == ["rebuild.running"]


async def test_rows_older_than_the_archive_stay(client: Client, keys: Keys, database: Database) -> None:
    await projected(client, keys, database, 3)
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE archive SET since = now() - interval '10 days';"
            "INSERT INTO runs (id, submitted_at, finished_at) VALUES ('old', now() - interval '11 days', now())"
        )
    await rebuilt(client, keys, database)
    assert await count(database, "runs") == 4
