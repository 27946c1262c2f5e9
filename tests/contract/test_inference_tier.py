"""What inference consumers offer, and the text of their answers as it comes, on every server."""

from typing import Any

from consumers.feed import Feed
from consumers.offers import Announcement, Board
from llm.models import Model, Offer
from tests.workshop import Workshop, eventually


async def test_offers_hold_as_long_as_they_are_announced(workshop: Workshop) -> None:
    board = Board(workshop.client, workshop.keys)
    offer = Offer(Model("local", "", "m", 0, 4096), 2)
    await board.announce(Announcement("long", "local", (offer,)), 30)
    await board.announce(Announcement("short", "local", (offer,)), 0.2)
    await board.announce(Announcement("withdrawn", "local", (offer,)), 30)
    await board.announce(Announcement("withdrawn", "local"), 0)

    async def consumers() -> set[str]:
        return {said.consumer for said in await board.announcements(fresh=True)}

    assert await consumers() == {"long", "short"}

    async def only_long() -> bool:
        return await consumers() == {"long"}

    await eventually(only_long)
    await board.announce(Announcement("long", "local"), 0)
    assert not await workshop.client.exists(workshop.keys.offers())


async def test_a_feed_carries_text_and_expires(workshop: Workshop) -> None:
    feed = Feed(workshop.client, workshop.keys, "run-1", "event-1/answer", "")
    say = feed.begin()
    for word in ("Once ", "upon ", "a time"):
        say(word)
        await feed.flush()
    key = workshop.keys.feed("run-1")
    found: Any = await workshop.client.xrange(key)
    assert len(found) == 3
    assert await workshop.client.ttl(key) > 0
