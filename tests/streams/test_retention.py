"""What goes from the streams, and what never does."""

from collections.abc import Sequence
from random import Random
from typing import Any

import anyio
import pytest
import structlog

from schemas.events import Event, GoalSubmitted, InferenceRequested, Metadata, RunFinished
from streams.groups import create_groups
from streams.keys import INFERENCE
from streams.retention import Keep, Retention
from streams.stage import AnyStage, Stage
from streams.worker import Terms
from tests.workshop import TERMS, Workshop, eventually, intake_stage, understood

OLD = Keep(seconds=3600)
"""Entries of these tests have ids of 1970, so all are too old."""
FINISHED = RunFinished(
    status="completed",
    output="done",
    method="rules",
    metadata=Metadata("none", "rules", None, 0, 0, 0.0, ()),
    stages=(),
)
NODE = 100
"""Entries in one node of a stream: trimming by length is exact up to this."""


async def echo(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
    return [understood(event.goal)]


FIRST = intake_stage(echo)
SECOND: AnyStage = Stage(name="second", reads="intake", accepts=(GoalSubmitted,), emits=(), handle=echo)
ASKED: AnyStage = Stage(name="infer.x", reads="infer.x", accepts=(InferenceRequested,), emits=(), handle=echo)


def retention(workshop: Workshop, keep: Keep, *stages: AnyStage) -> Retention:
    """Retention of a topology of these stages."""
    topology = workshop.topology(*stages or (FIRST,))
    return Retention(workshop.client, workshop.keys, topology, "a worker", keep)


async def fill(workshop: Workshop, count: int, stream: str = "intake", partition: str = "0", start: int = 1) -> str:
    """Add entries 1-<n> of long ago to a stream; its key."""
    key = workshop.keys.stream(partition, stream)
    pipeline = workshop.client.pipeline(transaction=False)
    for number in range(start, start + count):
        pipeline.xadd(key, {"type": "x", "event": "y" * 20}, id=f"1-{number}")
    await pipeline.execute()
    return key


async def read(workshop: Workshop, key: str, count: int, group: str = "understand", ack: bool = True) -> list[bytes]:
    reply = await workshop.client.xreadgroup(group, "somebody", {key: ">"}, count=count)
    ids = [entry_id for entry_id, _ in reply[0][1]]
    if ack:
        await workshop.client.xack(key, group, *ids)
    return ids


async def ids(workshop: Workshop, key: str) -> list[int]:
    return [int(entry_id.split(b"-")[1]) for entry_id, _ in await workshop.client.xrange(key)]


async def lag(workshop: Workshop, key: str, group: str = "understand") -> tuple[int | None, int]:
    (info,) = [each for each in await workshop.client.xinfo_groups(key) if each["name"].decode() == group]
    return info["lag"], info["pending"]


async def test_old_entries_go_and_what_is_not_acknowledged_stays_to_the_last_one(workshop: Workshop) -> None:
    await create_groups(workshop.client, workshop.keys, workshop.topology(FIRST))
    key = await fill(workshop, 1000)
    await read(workshop, key, 250)
    held = await read(workshop, key, 10, ack=False)
    await workshop.client.xack(key, "understand", *held[1:])
    await read(workshop, key, 240)

    assert await retention(workshop, OLD).trim("0") == 250
    assert await ids(workshop, key) == list(range(251, 1001))
    await workshop.client.xack(key, "understand", held[0])
    assert await retention(workshop, OLD).trim("0") == 250
    assert await ids(workshop, key) == list(range(501, 1001))


async def test_what_is_young_enough_stays_however_well_handled(workshop: Workshop) -> None:
    await create_groups(workshop.client, workshop.keys, workshop.topology(FIRST))
    key = await fill(workshop, 300)
    await workshop.publish("today")
    await read(workshop, key, 400)
    assert await retention(workshop, OLD).trim("0") == 300
    (entry,) = await workshop.entries("intake")
    assert entry.envelope
    assert await retention(workshop, OLD).trim("0") == 0


async def test_a_group_that_does_not_exist_yet_has_acknowledged_nothing(workshop: Workshop) -> None:
    key = await fill(workshop, 500)
    assert await retention(workshop, Keep(1, 1)).trim("0") == 0
    await create_groups(workshop.client, workshop.keys, workshop.topology(FIRST))
    await read(workshop, key, 500)
    with structlog.testing.capture_logs() as logs:
        assert await retention(workshop, Keep(1, 1), FIRST, SECOND).trim("0") == 0
    assert [(log["event"], log["group"], log["entries"]) for log in logs] == [("retention.held", "second", 500)]
    assert len(await ids(workshop, key)) == 500


async def test_of_several_groups_the_slowest_decides_and_strangers_do_not(workshop: Workshop) -> None:
    await create_groups(workshop.client, workshop.keys, workshop.topology(FIRST, SECOND))
    key = await fill(workshop, 500)
    await workshop.client.xgroup_create(key, "of a stage that is no more", id="0")
    await read(workshop, key, 400)
    await read(workshop, key, 130, "second")
    await retention(workshop, OLD, FIRST, SECOND).trim("0")
    assert (await ids(workshop, key))[0] == 131


async def test_the_servers_lag_is_right_after_a_trim(workshop: Workshop) -> None:
    await create_groups(workshop.client, workshop.keys, workshop.topology(FIRST))
    key = await fill(workshop, 1000)
    trimming = retention(workshop, OLD)
    for _ in range(3):
        await read(workshop, key, 333)
        before = await lag(workshop, key)
        assert await trimming.trim("0") == 333
        assert await lag(workshop, key) == before
    await read(workshop, key, 1)
    assert await trimming.trim("0") == 1
    assert await ids(workshop, key) == []
    assert await lag(workshop, key) == (0, 0)
    await fill(workshop, 7, start=1001)
    assert await lag(workshop, key) == (7, 0)
    await read(workshop, key, 2, ack=False)
    assert await lag(workshop, key) == (5, 2)
    assert await trimming.trim("0") == 0


async def test_a_stream_keeps_as_many_handled_entries_as_it_should_and_all_others(workshop: Workshop) -> None:
    await create_groups(workshop.client, workshop.keys, workshop.topology(FIRST))
    key = await fill(workshop, 25_000)
    few = retention(workshop, Keep(1e9 * 10, 1000))
    assert await few.trim("0") == 0
    for _ in range(10):
        await read(workshop, key, 2000)
    await few.trim("0")
    assert (await ids(workshop, key))[0] in range(20_001 - NODE, 20_002)
    for _ in range(5):
        await read(workshop, key, 1000)
    await few.trim("0")
    assert len(await ids(workshop, key)) in range(1000, 1001 + NODE)
    assert await lag(workshop, key) == (0, 0)


async def test_results_go_by_age_and_number_alone(workshop: Workshop) -> None:
    key = await fill(workshop, 1000, "results")
    await retention(workshop, Keep(1e9 * 10, 300)).trim("0")
    assert len(await ids(workshop, key)) in range(300, 301 + NODE)
    await retention(workshop, OLD).trim("0")
    assert await ids(workshop, key) == []


async def test_questions_to_models_are_kept_by_the_same_rules(workshop: Workshop) -> None:
    topology = workshop.topology(FIRST, ASKED)
    await create_groups(workshop.client, workshop.keys, topology)
    key = await fill(workshop, 200, "infer.x", INFERENCE)
    await read(workshop, key, 150, "infer.x")
    assert await retention(workshop, OLD, FIRST, ASKED).trim(INFERENCE) == 150


async def test_dead_letters_never_age_and_those_over_their_number_are_told(workshop: Workshop) -> None:
    key = await fill(workshop, 500, "dead")
    assert await retention(workshop, OLD).trim("0") == 0
    with structlog.testing.capture_logs() as logs:
        dropped = await retention(workshop, Keep(dead=200)).trim("0")
    assert len(await ids(workshop, key)) == 500 - dropped
    assert 500 - dropped in range(200, 201 + NODE)
    (warning,) = [log for log in logs if log["log_level"] == "warning"]
    assert (warning["event"], warning["dropped"]) == ("retention.dead_dropped", dropped)


async def test_ids_as_large_as_they_can_be_are_not_confused(workshop: Workshop) -> None:
    await create_groups(workshop.client, workshop.keys, workshop.topology(FIRST))
    key, top = workshop.keys.stream("0", "intake"), 2**64 - 1
    for count in range(top - 9, top + 1):
        await workshop.client.xadd(key, {"a": "b"}, id=f"1-{count}")
    await read(workshop, key, 5)
    await read(workshop, key, 5, ack=False)
    await retention(workshop, OLD).trim("0")
    assert {top - 4, top - 3, top - 2, top - 1, top} <= set(await ids(workshop, key))


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_was_read_and_acknowledged_nothing_open_is_lost(workshop: Workshop, seed: int) -> None:
    chance = Random(seed)
    await create_groups(workshop.client, workshop.keys, workshop.topology(FIRST, SECOND))
    key = workshop.keys.stream("0", "intake")
    open_ids: dict[str, set[int]] = {"understand": set(), "second": set()}
    given: dict[str, list[bytes]] = {"understand": [], "second": []}
    added = 0
    for _ in range(40):
        count = chance.choice((1, 30, 250))
        await fill(workshop, count, start=added + 1)
        for group, still in open_ids.items():
            still |= set(range(added + 1, added + count + 1))
            if chance.random() < 0.8 and (
                reply := await workshop.client.xreadgroup(group, "c", {key: ">"}, count=chance.choice((5, 100, 600)))
            ):
                given[group] += [entry_id for entry_id, _ in reply[0][1]]
            chance.shuffle(given[group])
            for _ in range(chance.randrange(len(given[group]) + 1)):
                done = given[group].pop()
                await workshop.client.xack(key, group, done)
                still.discard(int(done.split(b"-")[1]))
        added += count
        keep = Keep(3600, chance.choice((10, 1000))) if chance.random() < 0.5 else Keep(1e10, 50)
        async with anyio.create_task_group() as tasks:  # two workers at once
            tasks.start_soon(retention(workshop, keep, FIRST, SECOND).trim, "0")
            tasks.start_soon(retention(workshop, keep, FIRST, SECOND).trim, "0")
        left = set(await ids(workshop, key))
        assert open_ids["understand"] | open_ids["second"] <= left
        for group, still in open_ids.items():
            behind, pending = await lag(workshop, key, group)
            assert (behind or 0) + pending == len(still)


async def test_a_run_s_keys_go_after_its_end(workshop: Workshop) -> None:
    ask, end = anyio.Event(), anyio.Event()

    async def slow(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        async def act(goal: str, _key: str) -> str:
            return goal

        await ctx.call("act", act, event.goal, str, "repeat")
        ask.set()
        await end.wait()
        return [FINISHED]

    keys = [workshop.keys.run("0", "run-0"), workshop.keys.journal("run-0")]
    terms = Terms(lease=TERMS.lease, grace=5.0, keep=0.3)
    stage: AnyStage = Stage(
        name="understand", reads="intake", accepts=(GoalSubmitted,), emits=(RunFinished,), handle=slow
    )
    async with workshop.working(stage, terms=terms):
        await workshop.publish("takes its time")
        await ask.wait()
        assert [await workshop.client.ttl(key) for key in keys] == [-1, -1]  # they have no end of their own
        await anyio.sleep(2 * terms.keep)
        assert await workshop.client.exists(*keys) == 2
        end.set()

        async def gone() -> bool:
            return not await workshop.client.exists(*keys)

        await eventually(gone)
    assert len(await workshop.bodies("results")) == 1


async def test_a_worker_trims_all_streams_of_its_topology_whatever_it_serves(workshop: Workshop) -> None:
    key = await fill(workshop, 50, "results")
    terms = Terms(lease=TERMS.lease, grace=5.0, keep=3600)
    async with workshop.working(FIRST, terms=terms):

        async def gone() -> bool:
            return not await ids(workshop, key)

        await eventually(gone)
