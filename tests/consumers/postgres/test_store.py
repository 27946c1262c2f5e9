"""Stores on PostgreSQL keep what a store promises; what was kept on Redis comes over once."""

from typing import Any, ClassVar

import pytest

from consumers.postgres.bring import bring
from consumers.postgres.database import Database, quoted
from consumers.postgres.migrate import migrate
from consumers.postgres.store import PostgresStore
from consumers.redis_store import RedisStore
from consumers.store import Record, Store
from schemas.errors import NotReachable, ToolRefused
from streams.connection import Client
from streams.keys import Keys
from tests.contract.store import HOSTILE, NOON, Make, StoreContract, Thing, thing


@pytest.fixture
def make(database: Database) -> Make:
    return lambda project: PostgresStore(database, project)


@pytest.fixture
def store(make: Make) -> Store:
    return make("garden")


class TestPostgresStore(StoreContract):
    """On the database."""


async def test_two_installations_on_a_server_keep_apart(database: Database, database_url: str, store: Store) -> None:
    other = Database(database_url, 'o"ther; DROP SCHEMA public --')
    await migrate(other)
    assert await store.add(thing("a"))
    assert await PostgresStore(other, "garden").scan(Thing) == []
    async with other.connection() as connection:
        await connection.execute(f"DROP SCHEMA {quoted(other.schema)} CASCADE")
    await other.close()
    assert await store.scan(Thing) == [thing("a")]


async def test_names_that_look_alike_once_written_differently_are_different(store: Store) -> None:
    names = ["\0", r"\0", r"\\0", "\\\0", "b" * 401]
    for name in names:
        assert await store.add(thing(name))
    for name in names:
        assert await store.read(Thing, name) == thing(name)


async def test_what_can_not_be_read_stops_nothing_and_can_be_removed(database: Database, store: Store) -> None:
    await store.add(thing("a"))
    await store.add(thing("b"))
    for garbage in (b'{"id": 5}', b"null", b'"x"'):
        async with database.connection() as connection:
            await connection.execute("UPDATE records SET data = $1 WHERE id = 'b'", garbage)
        assert await store.scan(Thing) == [thing("a")]
        with pytest.raises(ToolRefused) as caught:
            await store.read(Thing, "b")
        assert caught.value.code == "store.unreadable"
    assert await store.remove(Thing, "b")


async def test_a_server_that_is_away_or_was_not_migrated_is_worth_another_try(database_url: str) -> None:
    for url, code in (("postgresql://u:secret@127.0.0.1:1/x", "unreachable"), (database_url, "not_migrated")):
        database = Database(url, "nobody migrated this")
        store = PostgresStore(database, "garden")
        for use in (store.add(thing("a")), store.read(Thing, "a"), store.scan(Thing), store.remove(Thing, "a")):
            with pytest.raises(NotReachable) as caught:
                await use
            assert caught.value.code == f"database.{code}"
            assert caught.value.retryable
            assert "secret" not in str(caught.value)
        await database.close()


class Other(Record, frozen=True):
    """In a collection of its own."""

    collection: ClassVar[str] = "others"


async def test_what_was_kept_on_redis_comes_over_once(client: Client, prefix: str, database: Database) -> None:
    keys = Keys(prefix, 4)
    for number, project in enumerate(HOSTILE):
        assert await RedisStore(client, keys, project).add(thing("same", f"\0 {number}"))
    garden, here = RedisStore(client, keys, "garden"), PostgresStore(database, "garden")
    for record in (thing("a", "on Redis"), thing("b"), Other(id="a", at=NOON)):
        await garden.add(record)
    raw: Any = client
    await raw.hset(keys.records("things", "garden"), "c", b"garbage")
    await here.add(thing("a", "here"))
    assert await bring(client, keys, database) == (len(HOSTILE) + 3, 1)
    for number, project in enumerate(HOSTILE):
        assert await PostgresStore(database, project).scan(Thing) == [thing("same", f"\0 {number}")]
    assert await here.scan(Thing) == [thing("a", "here"), thing("b")]
    assert await here.scan(Other) == [Other(id="a", at=NOON)]
    await here.remove(Thing, "b")
    assert await bring(client, keys, database) == (0, 1), "nothing that was removed here comes back"
    assert await here.scan(Thing) == [thing("a", "here")]
