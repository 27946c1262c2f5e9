"""A run's state: saved with the outputs, and never overwritten by whoever saw an older one."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import msgspec

from schemas.envelope import Envelope, encode
from schemas.events import Event, GoalSubmitted, PlanProposed, RunFinished
from schemas.plan import Plan
from streams.append import Publisher
from streams.stage import Policy, Stage
from tests.workshop import Workshop, eventually


class Count(msgspec.Struct, frozen=True):
    seen: tuple[str, ...] = ()


async def test_events_of_one_run_handled_side_by_side_all_count(workshop: Workshop) -> None:
    runs = 0

    async def count(event: PlanProposed, ctx: Any) -> Sequence[Event]:
        nonlocal runs
        runs += 1
        before = ctx.state
        await anyio.sleep(0.001)  # lets the others read the same state
        ctx.state = Count((*before.seen, event.restated))
        return []

    stage = Stage[PlanProposed, Count](
        "counter", (PlanProposed,), (RunFinished,), count, "aggregate", Policy(concurrency=10), Count
    )
    publisher = Publisher(workshop.client, workshop.keys)
    key = workshop.keys.run("0", "one-run")
    for number in range(30):
        event = PlanProposed(restated=str(number), plan=Plan("simple"))
        await publisher.publish([("one-run", event)], "aggregate")
        await workshop.client.hdel(key, "submitted")

    async def all_counted() -> bool:
        data: Any = await workshop.client.hget(key, "counter")
        return bool(data) and len(msgspec.json.decode(data, type=Count).seen) == 30

    async with workshop.working(stage), workshop.working(stage):
        await eventually(all_counted)
    data: Any = await workshop.client.hget(key, "counter")
    assert sorted(map(int, msgspec.json.decode(data, type=Count).seen)) == list(range(30))
    assert await workshop.client.hget(key, "counter.v") == b"30"
    assert runs > 30, "there were conflicts, so the test shows something"


async def test_a_handler_that_leaves_the_state_alone_saves_none(workshop: Workshop) -> None:
    async def look(_event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        assert ctx.state == Count()
        return []

    stage = Stage[GoalSubmitted, Count]("looker", (GoalSubmitted,), (), look, "intake", Policy(), Count)
    async with workshop.working(stage):
        (run,) = await workshop.publish("x")

        async def handled() -> bool:
            info: Any = await workshop.client.xinfo_groups(workshop.keys.stream("0", "intake"))
            return info[0]["entries-read"] == 1 and info[0]["pending"] == 0

        await eventually(handled)
    assert await workshop.client.hget(workshop.keys.run("0", run), "looker") is None


async def test_what_was_looked_up_for_an_older_state_is_looked_up_again(workshop: Workshop) -> None:
    async def look(request: str, _key: str) -> str:
        return request

    async def count(event: PlanProposed, ctx: Any) -> Sequence[Event]:
        before = ctx.state
        await ctx.call("look", look, f"after {len(before.seen)}", str)
        await anyio.sleep(0.001)
        ctx.state = Count((*before.seen, event.restated))
        return []

    stage = Stage[PlanProposed, Count](
        "counter", (PlanProposed,), (RunFinished,), count, "aggregate", Policy(concurrency=10), Count
    )
    key = workshop.keys.run("0", "one-run")
    for number in range(10):
        event = PlanProposed(restated=str(number), plan=Plan("simple"))
        envelope = Envelope(f"event-{number}", "one-run", event.version, datetime.now(UTC), "user", event)
        fields: Any = {"type": "PlanProposed", "event": encode(envelope)}
        await workshop.client.xadd(workshop.keys.stream("0", "aggregate"), fields)

    async def all_counted() -> bool:
        return await workshop.client.hget(key, "counter.v") == b"10"

    async with workshop.working(stage):
        await eventually(all_counted)
    assert await workshop.entries("dead") == []
