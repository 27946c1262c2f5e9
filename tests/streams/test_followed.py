"""Where somebody follows all streams, a run's journal stays until it is archived; else it goes with its run."""

from typing import Any

import pytest

from consumers.postgres.journals import released
from schemas.events import Event, GoalSubmitted, RunFinished
from streams.connection import Client
from streams.groups import FOLLOWER, create_groups, unfollow
from streams.keys import Keys
from streams.stage import AnyStage, Stage
from streams.topology import Topology
from tests.consumers.postgres.test_projector import END
from tests.workshop import Workshop, eventually


@pytest.mark.parametrize("follower", ["", FOLLOWER])
async def test_a_journal_is_left_to_who_follows(client: Client, prefix: str, follower: str) -> None:
    async def end(_: GoalSubmitted, __: Any) -> list[Event]:
        return [END]

    stage: AnyStage = Stage("understand", (GoalSubmitted,), (RunFinished,), end, "intake")
    topology = Topology((stage,), {GoalSubmitted: "intake"}, frozenset({RunFinished}))
    workshop = Workshop(client, Keys(prefix))
    await create_groups(client, workshop.keys, topology, follower)
    journal, run = workshop.keys.journal("run-0"), workshop.keys.run("0", "run-0")
    await workshop.client.hset(journal, "e/ask", "{}")
    async with workshop.working(stage):
        await workshop.publish("a goal")

        async def ended() -> bool:
            return await workshop.client.pttl(run) > 0

        await eventually(ended)
    assert (await workshop.client.pttl(journal) == -1) is bool(follower)


async def test_who_follows_no_more_keeps_nothing_from_going(client: Client, prefix: str) -> None:
    async def end(_: GoalSubmitted, __: Any) -> list[Event]:
        return [END]

    stage: AnyStage = Stage("understand", (GoalSubmitted,), (RunFinished,), end, "intake")
    topology = Topology((stage,), {GoalSubmitted: "intake"}, frozenset({RunFinished}))
    keys = Keys(prefix)
    await create_groups(client, keys, topology, FOLLOWER)
    over, going, gone = (keys.journal(run) for run in ("over", "going", "gone"))
    for journal in (over, going, gone):
        await client.hset(journal, "e/ask", "{}")
    for run in ("over", "going"):
        await client.hset(keys.run(keys.of_run(run), run), "submitted", "{}")
    await client.expire(keys.run(keys.of_run("over"), "over"), 100)
    await unfollow(client, keys, topology)
    assert await released(client, keys, 60) == 2
    assert (await client.ttl(over), await client.ttl(going), await client.ttl(gone)) == (60, -1, 60)
    for stream in ("intake", "results"):
        assert await client.xinfo_groups(keys.stream("0", stream)) == []
    await unfollow(client, keys, topology)
    assert await released(client, keys, 60) == 0
