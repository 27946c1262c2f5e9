"""Whoever follows a run sees its answers' text as it comes, piece by piece; nothing depends on it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from consumers import feed as feeds
from consumers.feed import Feed
from schemas.envelope import decode
from schemas.events import AnswerProgressed
from streams.connection import connect
from tests.workshop import Workshop, eventually

RUN, EFFECT = "run-1", "event-1/answer"


@pytest.fixture
def feed(workshop: Workshop) -> Feed:
    return Feed(workshop.client, workshop.keys, RUN, EFFECT, "s1")


async def pieces(workshop: Workshop) -> list[AnswerProgressed]:
    """What is on the run's feed."""
    found: Any = await workshop.client.xrange(workshop.keys.feed(RUN))
    bodies: list[AnswerProgressed] = []
    for _, fields in found:
        assert fields[b"type"] == b"AnswerProgressed"
        envelope = decode("AnswerProgressed", fields[b"event"])
        assert (envelope.run, envelope.trust) == (RUN, "model")
        assert isinstance(envelope.body, AnswerProgressed)
        bodies.append(envelope.body)
    return bodies


@asynccontextmanager
async def running(feed: Feed) -> AsyncGenerator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed.run)
        yield
        await feed.flush()
        tasks.cancel_scope.cancel()


async def test_pieces_carry_where_they_begin_and_together_are_the_text(workshop: Workshop, feed: Feed) -> None:
    text = "Ein Strom ist ein Log, 流, 🌊."
    async with running(feed):
        say = feed.begin()
        for number, character in enumerate(text):
            say(character)
            if number % 10 == 0:
                await anyio.sleep(feeds.FLUSH_EVERY)
    found = await pieces(workshop)
    assert len(found) > 1
    together = ""
    for piece in found:
        assert (piece.offset, piece.effect, piece.step) == (len(together), EFFECT, "s1")
        together += piece.text
    assert together == text


async def test_text_comes_while_the_answer_is_still_being_given(workshop: Workshop, feed: Feed) -> None:
    async with running(feed):
        feed.begin()("Once upon")

        async def there() -> bool:
            return [piece.text for piece in await pieces(workshop)] == ["Once upon"]

        await eventually(there)


async def test_when_another_engine_begins_the_answer_begins_anew(workshop: Workshop, feed: Feed) -> None:
    say = feed.begin()
    say("Half an ans")
    await feed.flush()
    say("wer that is never sent")
    say = feed.begin()
    say("A whole answer.")
    await feed.flush()
    assert [(piece.offset, piece.text) for piece in await pieces(workshop)] == [
        (0, "Half an ans"),
        (0, "A whole answer."),
    ]


async def test_where_nothing_is_said_nothing_is_sent(workshop: Workshop, feed: Feed) -> None:
    async with running(feed):
        feed.begin()("")
        await feed.flush()
    assert not await workshop.client.exists(workshop.keys.feed(RUN))


class Slow:
    """The server, behind a way that lets the first piece through late."""

    def __init__(self, client: Any) -> None:
        self.client, self.sending = client, anyio.Event()

    def pipeline(self, **more: Any) -> Any:
        pipeline = self.client.pipeline(**more)
        execute = pipeline.execute

        async def slowly() -> Any:
            if not self.sending.is_set():
                self.sending.set()
                await anyio.sleep(0.1)
            return await execute()

        pipeline.execute = slowly
        return pipeline


async def test_what_is_being_sent_is_neither_overtaken_nor_cut_off_by_the_end(workshop: Workshop) -> None:
    slow: Any = Slow(workshop.client)
    feed = Feed(slow, workshop.keys, RUN, EFFECT, "")
    say = feed.begin()
    async with running(feed):
        say("first, ")
        await slow.sending.wait()
        say("second")
    assert [(piece.offset, piece.text) for piece in await pieces(workshop)] == [(0, "first, "), (7, "second")]


async def test_a_feed_expires_and_each_piece_prolongs_it(workshop: Workshop, feed: Feed) -> None:
    key, say = workshop.keys.feed(RUN), feed.begin()
    say("a")
    await feed.flush()
    assert 0 < await workshop.client.ttl(key) <= feeds.KEEP
    await workshop.client.expire(key, 10)
    say("b")
    await feed.flush()
    assert await workshop.client.ttl(key) > 10


async def test_its_length_is_bounded_and_the_latest_stay(
    workshop: Workshop, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "ENTRIES", 100)
    say = feed.begin()
    for _ in range(500):
        say("x")
        await feed.flush()
    assert 100 <= await workshop.client.xlen(workshop.keys.feed(RUN)) <= 300
    assert (await pieces(workshop))[-1].offset == 499


async def test_without_the_server_what_is_said_is_lost_and_nothing_else(workshop: Workshop) -> None:
    client = connect("redis://127.0.0.1:1")
    feed = Feed(client, workshop.keys, RUN, EFFECT, "")
    async with running(feed):
        feed.begin()("Is anybody there?")
        await anyio.sleep(2 * feeds.FLUSH_EVERY)
    await client.aclose()
