"""When too many goals wait, more are refused; nothing that was accepted is lost, and nothing is accepted twice."""

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from schemas.errors import Overloaded
from schemas.events import Event, GoalSubmitted
from streams.append import Publisher
from streams.groups import create_groups
from streams.keys import Keys
from tests.workshop import Workshop, eventually, intake_stage, understood

LIMIT = 10


async def echo(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
    return [understood(event.goal)]


STAGE = intake_stage(echo)


def publisher(workshop: Workshop, limit: int = LIMIT) -> Publisher:
    return Publisher(workshop.client, workshop.keys, {"intake": ("understand",)}, limit)


def goals(start: int, end: int) -> list[tuple[str, GoalSubmitted]]:
    return [(f"run-{number}", GoalSubmitted(goal=f"goal {number}")) for number in range(start, end)]


async def take(workshop: Workshop, count: int, ack: bool) -> None:
    key = workshop.keys.stream("0", "intake")
    reply = await workshop.client.xreadgroup("understand", "somebody", {key: ">"}, count=count)
    if ack:
        await workshop.client.xack(key, "understand", *[entry_id for entry_id, _ in reply[0][1]])


async def test_publishing_says_for_each_event_whether_it_is_new(workshop: Workshop) -> None:
    assert await publisher(workshop).publish(goals(0, 3), "intake") == ["appended"] * 3
    assert await publisher(workshop).publish(goals(2, 5), "intake") == ["known", "appended", "appended"]
    twice = [*goals(7, 8), *goals(7, 8)]
    assert await publisher(workshop).publish(twice, "intake") == ["appended", "known"]
    assert await publisher(workshop).publish([], "intake") == []


@pytest.mark.parametrize("group", [True, False], ids=["with its group", "before its group exists"])
async def test_what_fits_is_accepted_and_the_rest_refused_by_name(workshop: Workshop, group: bool) -> None:
    if group:
        await create_groups(workshop.client, workshop.keys, workshop.topology(STAGE))
    await publisher(workshop).publish(goals(0, 7), "intake")
    with pytest.raises(Overloaded) as refusal:
        await publisher(workshop).publish(goals(5, 15), "intake")
    full = refusal.value
    assert full.results == ["known"] * 2 + ["appended"] * 3 + ["refused"] * 5
    assert (full.code, full.retryable, full.exit_code) == ("intake.overloaded", True, 1)
    assert full.retry_after > 0
    assert "10 entries wait" in full.message
    assert len(await workshop.entries("intake")) == LIMIT
    # What had been refused left no trace: the same events are new as soon as there is room.
    if group:
        await take(workshop, 6, ack=True)
        assert await publisher(workshop).publish(goals(8, 15), "intake") == ["known"] * 2 + ["appended"] * 5


async def test_delivered_entries_wait_too_until_they_are_acknowledged(workshop: Workshop) -> None:
    await create_groups(workshop.client, workshop.keys, workshop.topology(STAGE))
    await publisher(workshop).publish(goals(0, LIMIT), "intake")
    await take(workshop, LIMIT, ack=False)
    with pytest.raises(Overloaded):
        await publisher(workshop).publish(goals(20, 21), "intake")


async def test_many_publishers_at_once_fill_it_to_the_limit_and_no_further(workshop: Workshop) -> None:
    await create_groups(workshop.client, workshop.keys, workshop.topology(STAGE))
    accepted: list[str] = []

    async def one(number: int) -> None:
        try:
            accepted.extend(await publisher(workshop, 50).publish(goals(number * 9, number * 9 + 9), "intake"))
        except Overloaded as full:
            accepted.extend(full.results)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(one, number)
    assert accepted.count("appended") == len(await workshop.entries("intake")) == 50


async def test_what_the_server_can_not_tell_after_a_deletion_is_counted(workshop: Workshop) -> None:
    await create_groups(workshop.client, workshop.keys, workshop.topology(STAGE))
    await publisher(workshop, 0).publish(goals(0, 3000), "intake")
    await take(workshop, 1500, ack=True)
    key = workshop.keys.stream("0", "intake")
    entries = await workshop.client.xrange(key)
    await workshop.client.xdel(key, entries[2000][0])
    (info,) = await workshop.client.xinfo_groups(key)
    assert info["lag"] is None
    assert await publisher(workshop, 1500).publish(goals(3000, 3001), "intake") == ["appended"]
    with pytest.raises(Overloaded, match="1,500 entries wait"):
        await publisher(workshop, 1500).publish(goals(3001, 3002), "intake")
    # Moved by hand, a group is unknown to the server to the end of the stream.
    await workshop.client.xgroup_setid(key, "understand", entries[100][0])
    await workshop.client.delete(workshop.keys.counted("0", "intake"))
    with pytest.raises(Overloaded, match="2,000 entries wait"):
        await publisher(workshop, 2000).publish(goals(3001, 3002), "intake")
    await workshop.client.delete(workshop.keys.counted("0", "intake"))
    with pytest.raises(Overloaded) as refusal:
        await publisher(workshop, 2902).publish(goals(3001, 3011), "intake")
    assert refusal.value.results.count("appended") == 3
    with pytest.raises(Overloaded):
        await publisher(workshop, 2902).publish(goals(3011, 3012), "intake")


async def test_each_partition_has_its_own_limit_and_results_keep_their_order(workshop: Workshop) -> None:
    workshop.keys = Keys(workshop.keys.prefix, 4)
    with pytest.raises(Overloaded) as refusal:
        await publisher(workshop).publish(goals(0, 100), "intake")
    taken = {run for run, result in zip(range(100), refusal.value.results, strict=True) if result == "appended"}
    for partition in ("0", "1", "2", "3"):
        runs = [entry.envelope.run for entry in await workshop.entries("intake", partition) if entry.envelope]
        assert runs == [f"run-{n}" for n in sorted(taken) if workshop.keys.of_run(f"run-{n}") == partition]
        assert len(runs) == LIMIT


async def test_a_publisher_that_tries_again_gets_everything_through_and_stages_are_never_refused(
    workshop: Workshop,
) -> None:
    left = goals(0, 300)
    async with workshop.working(STAGE):
        while left:
            try:
                await publisher(workshop).publish(left, "intake")
                left = []
            except Overloaded as full:
                left = [goal for goal, result in zip(left, full.results, strict=True) if result == "refused"]

        async def answered() -> bool:
            return len(await workshop.entries("results")) == 300

        await eventually(answered)
    assert len({entry.envelope.run for entry in await workshop.entries("results") if entry.envelope}) == 300
    assert len(await workshop.entries("intake")) == 300
    assert await workshop.entries("dead") == []
