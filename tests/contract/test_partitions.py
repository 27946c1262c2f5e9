"""Runs are spread over partitions, all keys one hop touches lie in one cluster slot, and partitions over servers."""

from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
from redis.crc import key_slot

from schemas.events import Event, GoalSubmitted
from streams.connection import Client
from streams.follow import follow
from streams.keys import Keys
from streams.stage import Policy
from tests.servers import Server
from tests.workshop import Workshop, eventually, intake_stage, understood


async def echo(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
    async def act(request: str, _key: str) -> str:
        return request

    return [understood(await ctx.call("echo", act, event.goal, str))]


async def test_one_worker_serves_all_partitions_and_a_run_stays_in_its_own(client: Client, prefix: str) -> None:
    keys = Keys(prefix, partitions=4)
    workshop = Workshop(client, keys)

    async def results() -> dict[str, list[str]]:
        return {
            p: [e.envelope.run for e in await workshop.entries("results", p) if e.envelope]
            for p in ("0", "1", "2", "3")
        }

    async def all_there() -> bool:
        return sum(map(len, (await results()).values())) == 80

    async with workshop.working(intake_stage(echo)):
        runs = await workshop.publish(*[f"goal {n}" for n in range(80)])
        await eventually(all_there)

    found = await results()
    assert sorted(run for each in found.values() for run in each) == sorted(runs)
    assert all(keys.of_run(run) == partition for partition, each in found.items() for run in each)
    assert all(found.values()), "no partition stayed empty"


async def test_a_loaded_partition_does_not_starve_another(client: Client, prefix: str) -> None:
    keys = Keys(prefix, partitions=2)
    workshop = Workshop(client, keys)
    runs = [f"run-{number}" for number in range(3_000)]
    loaded = [run for run in runs if keys.of_run(run) == "0"]
    (alone, *_) = (run for run in runs if keys.of_run(run) == "1")
    await workshop.publisher.publish([(run, GoalSubmitted(goal=run)) for run in loaded], "intake")
    handled: list[str] = []

    async def note(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        handled.append(ctx.run_id)
        await anyio.lowlevel.checkpoint()
        return []

    async with workshop.working(intake_stage(note, Policy(concurrency=4))):
        await eventually(lambda: any_of(handled))
        await workshop.publisher.publish([(alone, GoalSubmitted(goal="the only one"))], "intake")

        async def reached() -> bool:
            return alone in handled

        await eventually(reached)
    assert handled.index(alone) < len(loaded), "it did not wait for all the others"


async def any_of(handled: list[str]) -> bool:
    return bool(handled)


async def test_who_follows_sees_what_comes_in_every_partition_and_each_once(client: Client, prefix: str) -> None:
    keys = Keys(prefix, partitions=4)
    workshop = Workshop(client, keys)
    batches = follow(
        client, {keys.stream(partition, "intake"): "0-0" for partition in keys.of_stream("intake")}, block=50
    )
    found: list[str] = []
    with anyio.fail_after(10):
        assert await anext(batches) == []
        for goals in (["one"] * 300, ["two"] * 340):  # of the second, 40 are new
            runs = await workshop.publish(*goals)
            while len(found) < len(runs):
                found += [seen.envelope.run for seen in await anext(batches) if seen.envelope]
            assert sorted(found) == sorted(runs)
    await batches.aclose()


async def test_eight_partitions_use_every_server_of_three(server: Server, client: Client) -> None:
    keys = Keys(partitions=8)
    used = {id(await client.owner(keys.stream(partition, "intake"))) for partition in keys.of_stream("intake")}
    assert len(used) == len(await client.masters()) == (3 if server.cluster else 1)


def test_the_keys_of_a_hop_share_a_slot_and_partitions_differ() -> None:
    keys = Keys("victoria", partitions=2)
    run = "run-7"
    partition = keys.of_run(run)
    one_hop = [
        keys.stream(partition, "intake"),
        keys.stream(partition, "plan"),
        keys.delayed(partition, "intake"),
        keys.dead(partition),
        keys.leases(partition, "understand"),
        keys.run(partition, run),
        keys.journal(run),
    ]
    assert len({key_slot(key.encode()) for key in one_hop}) == 1
    assert key_slot(keys.stream("0", "intake").encode()) != key_slot(keys.stream("1", "intake").encode())
    assert keys.of_stream("infer.local") == ("infer",)
