"""What any store promises its tools: nothing is kept twice, too much or too large, and no project sees another's.

A subclass has a fixture `make`, which makes projects' stores.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import anyio
import pytest

from consumers.store import LARGEST, Record, Store
from schemas.errors import ToolRefused

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


class StoreContract:
    """The tests of every store."""

    @pytest.fixture
    def store(self, make: Make) -> Store:
        return make("garden")

    async def test_what_is_kept_can_be_read_replaced_and_removed(self, store: Store) -> None:
        assert await store.read(Thing, "a") is None
        assert await store.add(thing("a", "one"))
        assert await store.read(Thing, "a") == thing("a", "one")
        assert await store.replace(thing("a", "two"))
        assert await store.read(Thing, "a") == thing("a", "two")
        assert await store.remove(Thing, "a")
        assert not await store.remove(Thing, "a")
        assert await store.read(Thing, "a") is None
        assert await store.scan(Thing) == []

    async def test_what_is_added_twice_is_there_once_as_it_was_first(self, store: Store) -> None:
        assert await store.add(thing("a", "first"))
        assert not await store.add(thing("a", "second", minutes=5))
        assert await store.scan(Thing) == [thing("a", "first")]

    async def test_what_was_removed_meanwhile_is_not_brought_back_by_replacing_it(self, store: Store) -> None:
        assert not await store.replace(thing("a"))
        assert await store.scan(Thing) == []

    async def test_records_are_found_by_their_time_in_its_order(self, store: Store) -> None:
        for minutes in (20, 0, 10, -10):
            await store.add(thing(f"t{minutes}", minutes=minutes))
        assert [each.id for each in await store.scan(Thing)] == ["t-10", "t0", "t10", "t20"]
        found = await store.scan(Thing, NOON, NOON + timedelta(minutes=20))
        assert [each.id for each in found] == ["t0", "t10"], "from the first moment on, before the last"
        await store.replace(thing("t0", minutes=30))
        assert [each.id for each in await store.scan(Thing, since=NOON + timedelta(minutes=15))] == ["t20", "t0"]

    async def test_a_collection_takes_only_so_many_and_what_is_there_still_changes(self, store: Store) -> None:
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

    async def test_many_at_once_do_not_get_past_the_limit(self, store: Store) -> None:
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

    async def test_what_is_too_large_is_refused_and_changes_nothing(self, store: Store) -> None:
        await store.add(thing("a", "small"))
        for keep in (store.add, store.replace):
            with pytest.raises(ToolRefused) as caught:
                await keep(thing("a", "\x00" * (LARGEST // 6 + 1)))
            assert caught.value.code == "store.too_large"
        assert await store.scan(Thing) == [thing("a", "small")]

    async def test_no_project_sees_what_another_keeps(self, make: Make) -> None:
        for number, project in enumerate(HOSTILE):
            assert await make(project).add(thing("same", str(number)))
        for number, project in enumerate(HOSTILE):
            assert await make(project).scan(Thing) == [thing("same", str(number))]
        assert await make("*").remove(Thing, "same")
        assert sum([len(await make(project).scan(Thing)) for project in HOSTILE]) == len(HOSTILE) - 1

    async def test_hostile_ids_and_texts_are_kept_as_they_are(self, store: Store) -> None:
        for name in HOSTILE[: Thing.most]:
            assert await store.add(thing(name, name))
        assert sorted(each.text for each in await store.scan(Thing)) == sorted(HOSTILE[: Thing.most])
        for name in HOSTILE[Thing.most :]:
            assert await store.read(Thing, name) is None
            assert not await store.remove(Thing, name)
