"""Stores on the server of the streams keep what a store promises, and apart from each other."""

from datetime import timedelta
from typing import Any, ClassVar

import pytest
from redis.crc import key_slot

from consumers.redis_store import AT_ONCE, RedisStore
from consumers.store import Record, Store, id_of
from schemas.errors import NotReachable, ToolRefused
from streams.connection import Client, connect
from streams.keys import Keys
from tests.contract.store import NOON, Make, StoreContract, Thing, thing


@pytest.fixture(params=[1, 4], ids=["one partition", "four partitions"])
def keys(request: pytest.FixtureRequest, prefix: str) -> Keys:
    return Keys(prefix, request.param)


@pytest.fixture
def make(client: Client, keys: Keys) -> Make:
    """Makes projects' stores."""
    return lambda project: RedisStore(client, keys, project)


class TestRedisStore(StoreContract):
    """On the server."""


@pytest.fixture
def store(make: Make) -> Store:
    return make("garden")


async def test_two_installations_on_a_server_keep_apart(client: Client, prefix: str) -> None:
    one, other = (RedisStore(client, Keys(f"{prefix}:{name}"), "garden") for name in "ab")
    await one.add(thing("a"))
    assert await other.scan(Thing) == []


async def test_more_than_one_command_reads_come_whole_and_in_order(client: Client, keys: Keys) -> None:
    class Many(Record, frozen=True):
        """As many as it takes."""

        collection: ClassVar[str] = "many"

    store = RedisStore(client, keys, "garden")
    for number in range(AT_ONCE + 3):
        await store.add(Many(id=str(number), at=NOON + timedelta(seconds=number)))
    assert [each.id for each in await store.scan(Many)] == [str(number) for number in range(AT_ONCE + 3)]


async def test_what_can_not_be_read_stops_nothing_and_can_be_removed(client: Client, keys: Keys, store: Store) -> None:
    await store.add(thing("a"))
    await store.add(thing("b"))
    raw: Any = client
    for garbage in (b"\xff", b"{", b'{"id": 5}', b"null"):
        await raw.hset(keys.records("things", "garden"), "b", garbage)
        assert await store.scan(Thing) == [thing("a")]
        with pytest.raises(ToolRefused) as caught:
            await store.read(Thing, "b")
        assert caught.value.code == "store.unreadable"
    assert await store.remove(Thing, "b")


async def test_a_server_that_is_away_is_worth_another_try() -> None:
    client = connect("redis://127.0.0.1:1")
    store = RedisStore(client, Keys(), "garden", "redis://127.0.0.1:1")
    for use in (store.add(thing("a")), store.read(Thing, "a"), store.scan(Thing), store.remove(Thing, "a")):
        with pytest.raises(NotReachable) as caught:
            await use
        assert caught.value.retryable
    await client.aclose()


def test_a_collections_keys_lie_in_one_slot_of_their_own(keys: Keys) -> None:
    slots = {
        (collection, project): {key_slot(key(collection, project).encode()) for key in (keys.records, keys.times)}
        for collection in ("notes", "entries")
        for project in ("garden", "}:x", "{x}", "сад")
    }
    assert all(len(each) == 1 for each in slots.values())
    assert len({slot for each in slots.values() for slot in each}) > 1


def test_an_id_is_short_plain_and_always_the_same_for_its_call() -> None:
    assert id_of("event-1/tool-1") == id_of("event-1/tool-1") != id_of("event-1/tool-2")
    ids = {id_of(str(number)) for number in range(10_000)}
    assert len(ids) == 10_000
    assert all(len(each) == 10 and each.isalnum() and each == each.lower() for each in ids)
    with pytest.raises(ValueError, match="key"):
        id_of("")
