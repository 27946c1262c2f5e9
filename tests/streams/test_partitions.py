"""Runs are spread over partitions, and all keys one hop touches lie in one cluster slot."""

from collections.abc import Sequence
from typing import Any

from redis.crc import key_slot

from schemas.events import Event, GoalSubmitted
from streams.connection import Client
from streams.keys import Keys
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
