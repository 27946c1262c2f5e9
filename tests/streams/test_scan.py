"""A range of many streams is what sorting all their entries would give, without holding them."""

import random
from collections.abc import AsyncIterator
from itertools import product

import pytest

from streams import scan as scanning
from streams.connection import Client
from streams.follow import Seen
from streams.keys import Keys
from streams.ranges import LAST, EntryId, Range
from streams.scan import ends, scan
from tests.workshop import Workshop

MOST_MS = 12


async def all_of(entries: AsyncIterator[Seen]) -> list[tuple[EntryId, str]]:
    return [(EntryId.of(entry.id), entry.stream) async for entry in entries]


async def test_any_range_comes_in_order_of_time_over_all_streams(
    client: Client, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "FIRST_PAGE", 2)
    monkeypatch.setattr(scanning, "PAGE", 3)
    rolls = random.Random(8)
    workshop, keys = Workshop(client, Keys(prefix)), [Keys(prefix).stream("0", name) for name in "abcd"]
    truth: list[tuple[EntryId, int]] = []
    filling = workshop.client.pipeline(transaction=False)
    for number in range(3):  # the fourth is not there
        places = rolls.sample(list(product(range(1, MOST_MS), range(3))), 15)
        truth += [(EntryId(*place), number) for place in places]
        for ms, count in sorted(places):
            filling.xadd(keys[number], {"type": "Test", "event": f"{ms % 3}"}, id=f"{ms}-{count}")
    filling.xdel(keys[0], *{str(place) for place, number in truth if number == 0 and place.ms == 5})
    await filling.execute()
    truth = sorted(each for each in truth if each[1] or each[0].ms != 5)
    spans = [Range(), Range(newest=0), Range(EntryId(3, 1), EntryId(7, 0)), Range(EntryId(5, 0), EntryId(5, 9), 2)]
    spans += [Range(newest=count) for count in (1, 7, 100)] + [
        Range(EntryId(MOST_MS, 0)),
        Range(EntryId(9, 0), LAST, 3),
    ]
    for span in spans:
        within = [each for each in truth if span.first <= each[0] <= span.last]
        within = within if span.newest is None else within[len(within) - min(span.newest, len(within)) :]
        assert await all_of(scan(client, keys, span)) == [(place, keys[number]) for place, number in within], span
    third = [each for each in truth if each[0].ms % 3 == 0]
    found = await all_of(scan(client, keys, Range(newest=4), wanted=lambda entry: entry.text == "0"))
    assert found == [(place, keys[number]) for place, number in third[-4:]]


async def test_what_comes_meanwhile_is_for_who_follows(client: Client, prefix: str) -> None:
    workshop, key = Workshop(client, Keys(prefix)), Keys(prefix).stream("0", "a")
    await workshop.client.xadd(key, {"type": "Test"}, id="5-0")
    assert await ends(client, [key, key + "x"]) == [EntryId(5, 0), EntryId(0, 0)]
    found: list[str] = []
    async for entry in scan(client, [key], Range()):
        found.append(entry.id)
        await workshop.client.xadd(key, {"type": "Test"}, id="6-0")
    assert found == ["5-0"]
