"""Migrations on every server that can be had: applied once and whole, whoever else does the same or is killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from consumers.postgres.database import Database, quoted
from consumers.postgres.migrate import Migration, migrate, require, shipped, standing
from consumers.postgres.store import PostgresStore
from schemas.errors import CouldNotStart, NotReachable
from tests.contract.store import Thing, thing
from tests.databases import system_server

ROOT = Path(__file__).parents[3]
ONE = Migration("0001_one", "CREATE TABLE one (n int);\nINSERT INTO one VALUES (1);\n")
TWO = Migration("0002_two", "CREATE TABLE two (n int);\n")
BROKEN = Migration("0003_broken", "CREATE TABLE three (n int);\nSELECT * FROM nowhere;\n")
MISSING = Migration("0002_missing", "-- needs: telepathy\nCREATE TABLE minds (n int);\n")
SLOW = """
import asyncio, sys
from consumers.postgres.database import Database
from consumers.postgres.migrate import Migration, migrate
text = "CREATE TABLE slow (n int); INSERT INTO slow VALUES (1); SELECT pg_sleep(0.2)"
asyncio.run(migrate(Database(sys.argv[1], sys.argv[2]), [Migration("0001_slow", text)]))
"""


@pytest.fixture
async def empty(database_url: str, prefix: str) -> AsyncIterator[Database]:
    """A database without tables."""
    database = Database(database_url, prefix)
    yield database
    async with database.connection() as connection:
        await connection.execute(f"DROP SCHEMA IF EXISTS {quoted(database.schema)} CASCADE")
    await database.close()


async def states(database: Database, *migrations: Migration) -> list[str]:
    return [each.state for each in await standing(database, migrations)]


def test_what_is_shipped_is_numbered_without_holes() -> None:
    numbers = [int(migration.name.partition("_")[0]) for migration in shipped()]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_all_that_is_shipped_is_applied_once(empty: Database) -> None:
    with pytest.raises(NotReachable) as caught:
        await require(empty)
    assert caught.value.code == "database.not_migrated"
    assert [each.name for each in await migrate(empty)] == [migration.name for migration in shipped()]
    assert await migrate(empty) == []
    await require(empty)


def test_all_that_is_shipped_works_on_the_systems_older_server(tmp_path: Path) -> None:
    async def use(url: str) -> None:
        database = Database(url)
        await migrate(database, dry_run=True)
        await migrate(database)
        store = PostgresStore(database, "garden")
        assert await store.add(thing("a"))
        assert not await store.add(thing("a"))
        assert await store.scan(Thing) == [thing("a")]
        await database.close()

    try:
        with system_server(tmp_path) as url:
            asyncio.run(use(url))
    except FileNotFoundError as problem:
        pytest.skip(str(problem))


async def test_a_dry_run_changes_nothing_and_finds_what_would_fail(empty: Database) -> None:
    assert [each.name for each in await migrate(empty, [ONE, TWO], dry_run=True)] == ["0001_one", "0002_two"]
    assert await states(empty, ONE, TWO) == ["pending", "pending"]
    with pytest.raises(CouldNotStart):
        await migrate(empty, [ONE, TWO, BROKEN], dry_run=True)
    assert await states(empty, ONE, TWO, BROKEN) == ["pending", "pending", "pending"]


async def test_what_fails_leaves_nothing_and_what_came_before_stays(empty: Database) -> None:
    with pytest.raises(CouldNotStart) as caught:
        await migrate(empty, [ONE, TWO, BROKEN])
    assert caught.value.code == "migration.failed"
    assert "0003_broken" in caught.value.message
    assert await states(empty, ONE, TWO, BROKEN) == ["applied", "applied", "pending"]
    async with empty.connection() as connection:
        assert await connection.fetchval("SELECT to_regclass('three')") is None


async def test_one_that_was_changed_after_it_was_applied_is_refused_by_name(empty: Database) -> None:
    await migrate(empty, [ONE])
    changed = ONE._replace(text=ONE.text + "-- another comment\n")
    assert await states(empty, changed, TWO) == ["changed", "pending"]
    with pytest.raises(CouldNotStart) as caught:
        await migrate(empty, [changed, TWO])
    assert caught.value.code == "migration.changed"
    assert "0001_one" in caught.value.message
    assert await states(empty, ONE, TWO) == ["applied", "pending"], "nothing was done"


async def test_what_a_newer_version_applied_is_no_trouble(empty: Database) -> None:
    await migrate(empty, [ONE, TWO])
    assert await migrate(empty, [ONE]) == []
    assert await states(empty, ONE) == ["applied", "unknown"]


async def test_what_needs_an_extension_the_server_lacks_waits_and_holds_up_nothing(empty: Database) -> None:
    last = Migration("0003_last", TWO.text)
    assert [each.name for each in await migrate(empty, [ONE, MISSING, last])] == ["0001_one", "0003_last"]
    found = (await standing(empty, [ONE, MISSING, last]))[1]
    assert found.state == "waiting"
    assert "telepathy" in found.note


async def test_vectors_are_there_where_the_server_has_them(database_url: str, prefix: str) -> None:
    database = Database(database_url, prefix)
    vectors = Migration("0001_vectors", "-- needs: vector\nCREATE TABLE v (at vector(3));\n")
    if await states(database, vectors) == ["waiting"]:
        pytest.skip("the given server has no vectors")
    await migrate(database, [vectors])
    async with database.connection() as connection:
        await connection.execute("INSERT INTO v VALUES ('[1,2,3]')")
        assert await connection.fetchval("SELECT at <-> '[1,2,4]' FROM v") == 1
        await connection.execute(f"DROP SCHEMA {quoted(database.schema)} CASCADE")
    await database.close()


async def test_eight_at_once_apply_each_one_once(database_url: str, empty: Database) -> None:
    others = [Database(database_url, empty.schema) for _ in range(8)]
    done: list[str] = []

    async def apply(database: Database) -> None:
        done.extend(each.name for each in await migrate(database, [ONE, TWO]))
        await database.close()

    async with anyio.create_task_group() as tasks:
        for other in others:
            tasks.start_soon(apply, other)
    assert sorted(done) == ["0001_one", "0002_two"]
    async with empty.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM one") == 1


async def test_one_that_is_killed_half_way_leaves_nothing_and_holds_up_nobody(
    database_url: str, empty: Database
) -> None:
    slow = Migration("0001_slow", "CREATE TABLE slow (n int);\n")
    process = subprocess.Popen(  # noqa: ASYNC220 - it does not wait
        [sys.executable, "-c", SLOW, database_url, empty.schema], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    async with empty.connection() as connection:
        while not await connection.fetchval(sleeping):
            assert process.poll() is None
            await anyio.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert await states(empty, slow) == ["pending"]
    assert [each.name for each in await migrate(empty, [slow])] == ["0001_slow"]
