"""How far stages are behind is known of every server, over several partitions; what it lost count of is unknown."""

from schemas.events import GoalSubmitted
from streams.append import Publisher
from streams.connection import Client
from streams.groups import FOLLOWER, create_groups
from streams.keys import Keys
from streams.lag import Lag, ahead, lags
from tests.workshop import Workshop, intake_stage

LINES = (("intake", "understand"),)


async def never(_event: GoalSubmitted, _ctx: object) -> list[GoalSubmitted]:
    raise AssertionError("nobody works here")


async def test_lag_counts_all_partitions_and_a_goal_knows_how_many_come_first(client: Client, prefix: str) -> None:
    workshop = Workshop(client, Keys(prefix, partitions=3))
    keys, publisher = workshop.keys, Publisher(client, workshop.keys)
    topology = workshop.topology(intake_stage(never, emits=()))
    assert await lags(client, keys, topology) == {"understand": Lag(0, 0, 0)}, "before there is any stream"
    runs = [f"run-{number}" for number in range(30)]
    await publisher.publish([(run, GoalSubmitted(goal=f'"run":"{runs[-1]}"')) for run in runs], "intake")
    assert (await lags(client, keys, topology))["understand"] == Lag(30, 0, 0), "before there is any group"
    await create_groups(client, keys, topology)
    assert (await lags(client, keys, topology))["understand"] == Lag(30, 0, 0)

    for partition in keys.of_stream("intake"):
        own = [run for run in runs if keys.of_run(run) == partition]
        assert [await ahead(client, keys, LINES, run) for run in own] == [("understand", n) for n in range(len(own))]
        stream = keys.stream(partition, "intake")
        await workshop.client.xreadgroup("understand", "somebody", {stream: ">"}, count=2)
        places = [await ahead(client, keys, LINES, run) for run in own]
        assert places == [None, None, *(("understand", number) for number in range(len(own) - 2))]
    assert (await lags(client, keys, topology))["understand"] == Lag(24, 6, 0)
    assert await ahead(client, keys, LINES, "no-such-run") is None

    stream = keys.stream("0", "intake")
    last = (await workshop.client.xrevrange(stream, count=2))[1][0]
    await workshop.client.xdel(stream, last)
    assert (await lags(client, keys, topology))["understand"].undelivered is None


async def test_who_follows_all_streams_is_behind_like_any_stage(client: Client, prefix: str) -> None:
    workshop = Workshop(client, Keys(prefix, partitions=2))
    keys, publisher = workshop.keys, Publisher(client, workshop.keys)
    topology = workshop.topology(intake_stage(never, emits=()))
    await publisher.publish([(f"run-{number}", GoalSubmitted(goal="x")) for number in range(5)], "intake")
    assert FOLLOWER not in await lags(client, keys, topology), "nobody ever did"
    await create_groups(client, keys, topology, follower=FOLLOWER)
    assert (await lags(client, keys, topology))[FOLLOWER] == Lag(5, 0, 0)
