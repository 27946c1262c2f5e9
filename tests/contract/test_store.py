"""What a store promises its tools: nothing is kept twice, too much or too large, and no project sees another's."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import anyio
import pytest
from redis.crc import key_slot

from consumers.redis_store import AT_ONCE, RedisStore
from consumers.store import LARGEST, Record, Store, id_of
from schemas.errors import NotReachable, ToolRefused
from streams.connection import Client, connect
from streams.keys import Keys

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOSTILE = ("*", "a/b/../c", "{x}", "}:records", "k\x00\n\x1b[2J", "?[a-z]", "ключ", "笔记", " ", "a" * 2_000)

Make = Callable[[str], Store]


class Thing(Record, frozen=True):
    """Something to keep."""

    collection: ClassVar[str] = "things"
    most: ClassVar[int] = 5

    text: str = ""


class Other(Record, frozen=True):
    """Something else to keep."""

    collection: ClassVar[str] = "others"

    text: str = ""


def thing(name: str, text: str = "", minutes: int = 0) -> Thing:
    return Thing(id=name, at=NOON + timedelta(minutes=minutes), text=text)


@pytest.fixture(params=[1, 4], ids=["one partition", "four partitions"])
def keys(request: pytest.FixtureRequest, prefix: str) -> Keys:
    return Keys(prefix, request.param)


@pytest.fixture
def make(client: Client, keys: Keys) -> Make:
    """Makes projects' stores."""
    return lambda project: RedisStore(client, keys, project)


@pytest.fixture
def store(make: Make) -> Store:
    return make("garden")


async def test_what_is_kept_can_be_read_replaced_and_removed(store: Store) -> None:
    assert await store.read(Thing, "a") is None
    assert await store.add(thing("a", "one"))
    assert await store.read(Thing, "a") == thing("a", "one")
    assert await store.replace(thing("a", "two"))
    assert await store.read(Thing, "a") == thing("a", "two")
    assert await store.remove(Thing, "a")
    assert not await store.remove(Thing, "a")
    assert await store.read(Thing, "a") is None
    assert await store.scan(Thing) == []


async def test_what_is_added_twice_is_there_once_as_it_was_first(store: Store) -> None:
    assert await store.add(thing("a", "first"))
    assert not await store.add(thing("a", "second", minutes=5))
    assert await store.scan(Thing) == [thing("a", "first")]


async def test_what_was_removed_meanwhile_is_not_brought_back_by_replacing_it(store: Store) -> None:
    assert not await store.replace(thing("a"))
    assert await store.scan(Thing) == []


async def test_records_are_found_by_their_time_in_its_order(store: Store) -> None:
    for minutes in (20, 0, 10, -10):
        await store.add(thing(f"t{minutes}", minutes=minutes))
    assert [each.id for each in await store.scan(Thing)] == ["t-10", "t0", "t10", "t20"]
    found = await store.scan(Thing, NOON, NOON + timedelta(minutes=20))
    assert [each.id for each in found] == ["t0", "t10"], "from the first moment on, before the last"
    await store.replace(thing("t0", minutes=30))
    assert [each.id for each in await store.scan(Thing, since=NOON + timedelta(minutes=15))] == ["t20", "t0"]


async def test_a_collection_takes_only_so_many_and_what_is_there_still_changes(store: Store) -> None:
    for number in range(Thing.most):
        await store.add(thing(str(number)))
    with pytest.raises(ToolRefused) as caught:
        await store.add(thing("more"))
    assert caught.value.code == "store.full"
    assert not await store.add(thing("0")), "done again, it was not refused"
    assert await store.replace(thing("0", "new"))
    assert await store.add(Other(id="more", at=NOON)), "another collection has room"
    await store.remove(Thing, "0")
    assert await store.add(thing("more"))


async def test_many_at_once_do_not_get_past_the_limit(store: Store) -> None:
    kept: list[bool] = []

    async def keep(number: int) -> None:
        try:
            kept.append(await store.add(thing(str(number))))
        except ToolRefused:
            kept.append(False)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(keep, number)
    assert sum(kept) == len(await store.scan(Thing)) == Thing.most


async def test_what_is_too_large_is_refused_and_changes_nothing(store: Store) -> None:
    await store.add(thing("a", "small"))
    for keep in (store.add, store.replace):
        with pytest.raises(ToolRefused) as caught:
            await keep(thing("a", "\x00" * (LARGEST // 6 + 1)))
        assert caught.value.code == "store.too_large"
    assert await store.scan(Thing) == [thing("a", "small")]


async def test_no_project_sees_what_another_keeps(make: Make) -> None:
    for number, project in enumerate(HOSTILE):
        assert await make(project).add(thing("same", str(number)))
    for number, project in enumerate(HOSTILE):
        assert await make(project).scan(Thing) == [thing("same", str(number))]
    assert await make("*").remove(Thing, "same")
    assert sum([len(await make(project).scan(Thing)) for project in HOSTILE]) == len(HOSTILE) - 1


async def test_hostile_ids_and_texts_are_kept_as_they_are(store: Store) -> None:
    for name in HOSTILE[: Thing.most]:
        assert await store.add(thing(name, name))
    assert sorted(each.text for each in await store.scan(Thing)) == sorted(HOSTILE[: Thing.most])
    for name in HOSTILE[Thing.most :]:
        assert await store.read(Thing, name) is None
        assert not await store.remove(Thing, name)


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
