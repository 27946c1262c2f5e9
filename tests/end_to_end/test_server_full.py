"""A server without memory, or without the right to write: publishers are told, workers wait and go on."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.embedded import embedded
from schemas.errors import NotReachable
from schemas.events import Event, GoalSubmitted
from streams.connection import connect, reachable
from streams.groups import create_groups
from streams.keys import Keys
from streams.retention import Keep, Retention
from tests.workshop import Workshop, eventually, intake_stage, understood

LARGE = "x" * 10_000


async def act(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
    async def nothing(goal: str, _key: str) -> str:
        return goal

    return [understood(await ctx.call("act", nothing, event.goal[:10], str, "repeat"))]


STAGE = intake_stage(act)


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Workshop]:
    """A workshop on a server of its own, whose settings it may change."""
    with embedded(tmp_path / "state") as url:
        client = connect(url)
        yield Workshop(client, Keys("test"))
        await client.aclose()


async def submit(workshop: Workshop, number: int) -> str:
    """Publish one goal as a door does; its run's id."""
    with reachable("the server"):
        await workshop.publisher.publish([(f"run-{number}", GoalSubmitted(goal=LARGE))], "intake")
    return f"run-{number}"


async def fill(workshop: Workshop) -> list[str]:
    """Leave the server 2 MB, and publish until it is full; the runs that were accepted."""
    used = (await workshop.client.info("memory"))["used_memory"]
    await workshop.client.config_set("maxmemory", used + 2_000_000)
    runs: list[str] = []

    async def until_refused() -> None:
        while len(runs) < 1000:
            runs.append(await submit(workshop, len(runs)))

    with pytest.raises(NotReachable) as refusal:
        await until_refused()
    assert (refusal.value.code, refusal.value.retryable) == ("server.full", True)
    assert "maxmemory" in refusal.value.hint
    return runs


async def all_ended_once(workshop: Workshop, runs: Sequence[str]) -> None:
    async def ended() -> bool:
        return len(await workshop.entries("results")) >= len(runs)

    await eventually(ended, within=30)
    found = [entry.envelope.run for entry in await workshop.entries("results") if entry.envelope]
    assert sorted(found) == sorted(runs)
    assert await workshop.entries("dead") == []
    assert await workshop.pending(STAGE) == 0


async def test_a_full_server_is_said_and_what_it_accepted_ends_once_when_there_is_room(own: Workshop) -> None:
    await create_groups(own.client, own.keys, own.topology(STAGE))
    runs = await fill(own)
    assert len(runs) > 10
    lease = own.keys.leases("0", STAGE.name)
    async with own.working(STAGE) as worker:  # which starts, and keeps its lease, without any memory

        async def renewed() -> bool:
            return await own.client.zscore(lease, worker.name) > began

        began = await own.client.zscore(lease, worker.name)
        await eventually(renewed)
        # What it can't finish waits; nothing is given up meanwhile.
        await eventually(lambda: own.client.zcard(own.keys.delayed("0", STAGE.reads)))
        assert await own.entries("dead") == []
        with pytest.raises(NotReachable):
            await submit(own, 5000)
        await own.client.config_set("maxmemory", 0)
        runs.append(await submit(own, 5000))
        await all_ended_once(own, runs)


async def test_retention_makes_room_on_a_full_server(own: Workshop) -> None:
    runs = await fill(own)
    await own.client.config_set("maxmemory", 0)
    async with own.working(STAGE):
        await all_ended_once(own, runs)
    used = (await own.client.info("memory"))["used_memory"]
    await own.client.config_set("maxmemory", used)
    with pytest.raises(NotReachable):
        await submit(own, 5000)
    await Retention(own.client, own.keys, own.topology(STAGE), "a worker", Keep(0.001)).trim("0")

    async def accepted() -> str:
        return await submit(own, 5000)

    await eventually(accepted)


async def test_a_replica_is_said_and_workers_go_on_when_it_is_promoted(own: Workshop) -> None:
    runs = [await submit(own, number) for number in range(50)]
    async with own.working(STAGE):
        await own.client.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(NotReachable) as refusal:
            await submit(own, 100)
        assert refusal.value.code == "server.read_only"
        await own.client.execute_command("REPLICAOF", "NO", "ONE")
        runs.append(await submit(own, 100))
        await all_ended_once(own, runs)
