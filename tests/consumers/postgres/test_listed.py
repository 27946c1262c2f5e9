"""Runs are listed the newest first: from history, and what that lacks from the streams, each once and as it stands."""

from datetime import timedelta

import pytest

from consumers.postgres.database import Database
from consumers.postgres.projector import Projector
from consumers.runs import listed
from consumers.runs.listed import Listing, Which
from schemas.events import GoalSubmitted
from streams.append import Publisher
from streams.connection import Client
from streams.keys import Keys
from tests.consumers.postgres.test_projector import NOW, projecting, say, streams, until_settled


@pytest.fixture
def keys(prefix: str) -> Keys:
    return Keys(prefix, 2)


async def test_what_history_has_and_what_it_lacks_are_one_list(
    client: Client, keys: Keys, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed, "PAGE", 3)
    for number in range(8):
        await say(client, keys, 1, first=number, at=NOW - timedelta(hours=8 - number))
    publisher = Publisher(client, keys)
    await publisher.publish([("projected", GoalSubmitted(goal="under way", project="shop"))], "intake")
    async with projecting(Projector(client, keys, streams(), database)):
        await until_settled(client, keys)
    await publisher.publish([("new", GoalSubmitted(goal="not in history yet", expert="qa"))], "intake")
    listing = Listing(client, keys, database)

    async def ids(which: Which, limit: int = 100) -> list[str]:
        return [row.id for row in (await listing.newest(which, limit)).rows]

    rows = (await listing.newest(Which(), 100)).rows
    assert [row.id for row in rows] == ["new", "projected", *(f"run-{number}" for number in range(7, -1, -1))]
    assert [(row.status, row.seconds) for row in rows] == [("queued", None)] * 2 + [("completed", 0.5)] * 8
    assert (rows[0].expert, rows[2].strategy, rows[2].goal) == ("qa", "react", "a \ufffd goal")
    assert await ids(Which(), 4) == ["new", "projected", "run-7", "run-6"]
    assert await ids(Which("queued")) == ["new", "projected"]
    assert await ids(Which("completed"), 2) == ["run-7", "run-6"]
    assert await ids(Which("failed")) == []
    assert await ids(Which(projects=("shop",))) == ["projected"]
    assert await ids(Which("completed", since=NOW - timedelta(hours=2, minutes=1))) == ["run-7", "run-6"]
    # Where history is not kept, the streams go as far as they go, for what the server still knows.
    assert [row.id for row in (await Listing(client, keys).newest(Which(), 9)).rows] == ["new", "projected"]
    monkeypatch.setattr(listed, "LOOKED", 4)
    assert not (await Listing(client, keys).newest(Which("failed"), 1)).whole
