"""What the connection layer gives those who use it, also while the server comes and goes."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from consumers.postgres import database as module
from consumers.postgres.database import Database, schema_of, storable
from deploy.embedded import embedded
from deploy.place import Place, listener
from deploy.postgres import POSTGRES
from schemas.errors import CouldNotStart, InvalidInput, NotReachable


async def test_data_come_back_as_they_were_given(database: Database) -> None:
    data = {"words": ["Привет", "a\\u0000b", "\\"], "none": None, "number": 1.5}
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT $1::jsonb", data) == data
        assert await connection.fetchval("SELECT $1::json", b'{"a": "\\u0000"}') == b'{"a": "\\u0000"}'
        assert await connection.fetchval("SELECT $1::jsonb", ["\0 \\ \\\0"]) == ["\ufffd \\ \\\ufffd"]
    assert storable(rb'"\\u0000 \\\u0000"') == rb'"\\u0000 \\\ufffd"'


async def test_a_transaction_is_done_whole_or_not_at_all(database: Database) -> None:
    async def answer_twice() -> None:
        async with database.transaction() as connection:
            for _ in range(2):
                await connection.execute("INSERT INTO answers VALUES ('r', now(), 'x', 'x', 'x', 'x', '{}')")

    with pytest.raises(asyncpg.UniqueViolationError):
        await answer_twice()
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM answers") == 0


async def test_a_statement_that_takes_too_long_is_stopped(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STATEMENT", 0.05)
    hasty = Database(database.url, database.schema)
    with pytest.raises(NotReachable) as caught:
        async with hasty.connection() as connection:
            await connection.execute("SELECT pg_sleep(10)")
    assert caught.value.code == "database.slow"
    await hasty.close()


async def test_more_users_than_connections_take_turns(database_url: str) -> None:
    database = Database(database_url, connections=2)
    seen: list[int] = []

    async def use() -> None:
        async with database.connection() as connection:
            seen.append(await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%turns%'"))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(use)
    assert len(seen) == 20
    assert max(seen) <= 2
    await database.close()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("//victoria@", "//nobody:secret@"), "database.denied"),
        (("/postgres", "/nowhere"), "database.missing"),
    ],
)
async def test_a_server_that_refuses_is_named_without_the_password(
    database_url: str, change: tuple[str, str], code: str
) -> None:
    database = Database(database_url.replace(*change))
    with pytest.raises(NotReachable) as caught:
        async with database.connection():
            pass
    assert (caught.value.code, caught.value.exit_code) == (code, 5)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "end",
    [
        "secret@h/x?sslmode=nonsense",
        "secret@h:port/x",
        "sec/ret@h/x",
        "sec#ret@h/x",
    ],
)
async def test_a_url_that_can_not_be_used_is_bad_input(end: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        async with Database(f"postgresql://u:{end}").connection():
            pass
    assert caught.value.code == "database.url"
    assert "sec" not in str(caught.value)


async def test_a_url_may_have_only_parameters_that_the_server_knows(database_url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        async with Database(f"{database_url}&colour=blue").connection():
            pass
    assert caught.value.code == "database.url"
    assert "colour" in caught.value.message


async def test_a_database_that_can_not_keep_every_language_is_refused(database_url: str) -> None:
    server = Database(database_url)
    async with server.connection() as connection:
        await connection.execute("DROP DATABASE IF EXISTS latin")
        await connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(CouldNotStart) as caught:
        async with Database(database_url.replace("/postgres?", "/latin?")).connection():
            pass
    assert (caught.value.code, "LATIN1" in caught.value.message) == ("database.encoding", True)
    await server.close()


@pytest.mark.parametrize("fault", ["internal_error", "raise_exception", "io_error", "data_corrupted"])
async def test_a_fault_inside_the_server_is_trouble_of_the_server(database: Database, fault: str) -> None:
    with pytest.raises(NotReachable) as caught:
        async with database.connection() as connection:
            await connection.execute(f"DO $$ BEGIN RAISE EXCEPTION 'boom' USING ERRCODE = '{fault}'; END $$")
    assert (caught.value.code, "boom" in caught.value.message) == ("database.trouble", True)


async def test_a_connection_lost_between_two_statements_is_trouble_of_the_server(database: Database) -> None:
    async def lose_it() -> None:
        async with database.connection() as connection:
            connection.terminate()  # as the driver does where a server that was killed says nothing any more
            await connection.fetchval("SELECT 1")

    with pytest.raises(NotReachable) as caught:
        await lose_it()
    assert caught.value.code == "database.unreachable"


async def test_mistakes_in_statements_are_no_trouble_of_the_server(database: Database) -> None:
    with pytest.raises(asyncpg.PostgresSyntaxError):
        async with database.connection() as connection:
            await connection.execute("SELEKT")


def test_any_prefix_names_a_schema_of_its_own() -> None:
    prefixes = ("victoria", "pg_x", "pg_y", "a" * 63, "a" * 64, "a" * 65, "я" * 40)
    assert len({schema_of(prefix) for prefix in prefixes}) == len(prefixes)
    assert all(len(schema_of(prefix).encode()) <= 63 for prefix in prefixes)


def test_a_server_that_is_killed_is_met_again(tmp_path: Path) -> None:
    def server() -> int:
        path = Place(tmp_path).socket()
        return (path and listener(path)) or 0

    async def use(url: str) -> None:
        database = Database(url, connections=2)

        async def answer() -> Any:
            async with database.connection() as connection:
                return await connection.fetchval("SELECT pg_postmaster_start_time()")

        first = again = await answer()
        os.kill(server(), signal.SIGKILL)
        with anyio.fail_after(60):
            while again == first:
                with suppress(NotReachable):
                    again = await answer()
                await anyio.sleep(0.01)
        assert again > first
        await database.close()

    with embedded(tmp_path, program=POSTGRES) as url:
        asyncio.run(use(url))
