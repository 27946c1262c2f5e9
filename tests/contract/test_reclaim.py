"""What happens to the entries of a worker that died, and to a worker whose server lost its memory."""

from collections.abc import Sequence
from time import time
from typing import Any

import anyio
import pytest

from schemas.events import Event, GoalSubmitted
from streams.stage import Policy, Reject
from streams.worker import Terms
from tests.workshop import QUICK, Workshop, eventually, intake_stage, understood, wipe

STREAM, GROUP = "intake", "understand"


async def echo(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
    return [understood(event.goal)]


async def read_as(workshop: Workshop, consumer: str, count: int) -> list[bytes]:
    """Deliver entries to a consumer that never settles them: what a killed worker leaves behind."""
    key = workshop.keys.stream("0", STREAM)
    reply: Any = await workshop.client.xreadgroup(GROUP, consumer, {key: ">"}, count=count)
    return [entry_id for entry_id, _ in reply[0][1]]


async def group(workshop: Workshop) -> str:
    key = workshop.keys.stream("0", STREAM)
    await workshop.client.xgroup_create(key, GROUP, id="0", mkstream=True)
    return key


async def results(workshop: Workshop, count: int) -> bool:
    return len(await workshop.entries("results")) >= count


async def test_a_dead_workers_entries_are_all_handled_and_none_twice(workshop: Workshop) -> None:
    key = await group(workshop)
    await workshop.publish(*[f"goal {n}" for n in range(350)])
    await read_as(workshop, "dead-worker", 350)
    stage = intake_stage(echo)
    async with workshop.working(stage):
        await eventually(lambda: results(workshop, 350))
    entries = await workshop.entries("results")
    assert len({e.envelope.id for e in entries if e.envelope}) == len(entries) == 350
    assert await workshop.pending(stage) == 0
    assert await workshop.client.xinfo_consumers(key, GROUP) == []


async def test_a_worker_that_works_long_keeps_its_entries(workshop: Workshop) -> None:
    calls: list[str] = []
    brief = Terms(lease=0.3)

    async def slow(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        calls.append(event.goal)
        await anyio.sleep(2.5 * brief.lease)
        return [understood(event.goal)]

    stage = intake_stage(slow, Policy(concurrency=1, timeout=30))
    async with workshop.working(stage, terms=brief), workshop.working(stage, terms=brief):
        await workshop.publish("long work")
        await eventually(lambda: results(workshop, 1))
    assert calls == ["long work"]


@pytest.mark.parametrize("late", ["an answer", "a failure", "a rejection"])
async def test_a_worker_that_lost_its_entry_while_it_was_paused_changes_nothing(workshop: Workshop, late: str) -> None:
    woken = anyio.Event()
    calls: list[str] = []

    async def first_sleeps(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        calls.append(event.goal)
        if len(calls) == 1:
            await woken.wait()
            if late != "an answer":
                raise Reject("too late") if late == "a rejection" else ValueError("too late")
        return [understood(event.goal)]

    stage = intake_stage(first_sleeps, Policy(concurrency=1, timeout=30))
    async with workshop.working(stage):
        await workshop.publish("fought over")
        await eventually(lambda: workshop.pending(stage))
        # The lease is taken from it as if it had been stopped for long; somebody else takes over and settles.
        async with workshop.working(stage):
            leases = workshop.keys.leases("0", GROUP)

            async def taken_over() -> bool:
                await workshop.client.zremrangebyrank(leases, 0, 0)
                return await results(workshop, 1)

            await eventually(taken_over)
        woken.set()
    assert len(calls) == 2
    assert len(await workshop.entries("results")) == 1
    assert await workshop.entries("dead") == []
    assert await workshop.client.zcard(workshop.keys.delayed("0", STREAM)) == 0


async def test_a_hundred_dead_workers_are_forgotten_and_none_that_lives(workshop: Workshop) -> None:
    key, leases = await group(workshop), workshop.keys.leases("0", GROUP)
    await workshop.publish(*[f"goal {n}" for n in range(60)])
    for number in range(100):
        if number < 50:
            await read_as(workshop, f"dead-{number}", 1)  # held an entry
        else:
            await workshop.client.xgroup_createconsumer(key, GROUP, f"dead-{number}")
        await workshop.client.zadd(leases, {f"dead-{number}": 1, f"never-read-{number}": 1})
    await workshop.client.xgroup_createconsumer(key, GROUP, "alive")
    await workshop.client.zadd(leases, {"alive": (time() + 60) * 1000})
    stage = intake_stage(echo)
    async with workshop.working(stage) as first, workshop.working(stage) as second:
        alive = {b"alive", first.name.encode(), second.name.encode()}

        async def forgotten() -> bool:
            consumers = {each["name"] for each in await workshop.client.xinfo_consumers(key, GROUP)}
            return consumers <= alive and set(await workshop.client.zrange(leases, 0, -1)) == alive

        await eventually(lambda: results(workshop, 60))
        await eventually(forgotten)
        await workshop.client.zadd(leases, {"alive": 1})
        alive.remove(b"alive")
        await eventually(forgotten)
    assert len(await workshop.entries("results")) == 60


async def test_an_entry_deleted_before_it_was_handled_is_reported_as_lost(workshop: Workshop) -> None:
    key = await group(workshop)
    await workshop.publish("gone", "there")
    first, _ = await read_as(workshop, "dead-worker", 2)
    await workshop.client.xdel(key, first)
    async with workshop.working(intake_stage(echo)):
        await eventually(lambda: results(workshop, 1))

        async def reported() -> bool:
            return bool(await workshop.entries("dead"))

        await eventually(reported)
    (letter,) = await workshop.entries("dead")
    assert '"entry.lost"' in letter.text
    assert first.decode() in letter.text


async def test_an_entry_that_kills_its_workers_is_given_up(workshop: Workshop) -> None:
    key = await group(workshop)
    await workshop.publish("poison")
    (entry,) = await read_as(workshop, "victim-0", 1)
    for number in range(1, QUICK.deliveries):
        await workshop.client.xclaim(key, GROUP, f"victim-{number}", 0, [entry])

    async def never(_event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        raise AssertionError("it was handled once more")

    async with workshop.working(intake_stage(never)):

        async def reported() -> bool:
            return bool(await workshop.entries("dead"))

        await eventually(reported)
    (letter,) = await workshop.entries("dead")
    assert '"entry.poisoned"' in letter.text


async def test_a_wiped_server_is_served_again_from_the_beginning(workshop: Workshop) -> None:
    stage = intake_stage(echo)
    async with workshop.working(stage):
        await workshop.publish("before")
        await eventually(lambda: results(workshop, 1))
        await wipe(workshop.client, workshop.keys.prefix)
        await workshop.publish("after")
        await eventually(lambda: results(workshop, 1))
    (entry,) = await workshop.entries("results")
    assert entry.envelope
