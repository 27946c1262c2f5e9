"""Too much of anything: what is bounded stays bounded, is reported, and others go on."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import msgspec
import pytest

from schemas.envelope import EVENT_BYTES, Envelope, encode
from schemas.events import Event, GoalSubmitted, GoalUnderstood, RunProgressed
from streams.outcome import DeadLetter
from streams.stage import AnyStage, Policy, Stage
from tests.workshop import QUICK, Workshop, eventually, intake_stage, understood


async def echo(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
    return [understood(event.goal)]


async def count(workshop: Workshop, stream: str) -> int:
    return await workshop.client.xlen(workshop.keys.stream("0", stream))


async def letters(workshop: Workshop) -> list[DeadLetter]:
    return [msgspec.json.decode(entry.text, type=DeadLetter) for entry in await workshop.entries("dead")]


async def test_ten_thousand_entries_of_a_dead_worker_are_taken_over_once_each_while_work_goes_on(
    workshop: Workshop,
) -> None:
    stage = intake_stage(echo, Policy(concurrency=256))
    stream = workshop.keys.stream("0", "intake")
    await workshop.client.xgroup_create(stream, stage.name, id="0", mkstream=True)
    left = await workshop.publish(*["left behind"] * 10_000)
    await workshop.client.execute_command(
        "XREADGROUP", "GROUP", stage.name, "dead", "COUNT", 10_000, "STREAMS", stream, ">"
    )
    assert await workshop.pending(stage) == 10_000

    fresh = [f"fresh-{number}" for number in range(1_000)]
    async with workshop.working(stage):
        await workshop.publisher.publish([(run, GoalSubmitted(goal="fresh")) for run in fresh], "intake")

        async def all_said() -> bool:
            return await count(workshop, "results") >= 11_000

        await eventually(all_said, within=60)
    said = Counter(entry.envelope.run for entry in await workshop.entries("results") if entry.envelope)
    assert said == Counter(left + fresh)
    assert await workshop.pending(stage) == 0


async def test_a_worker_holds_no_more_entries_than_it_may_handle_at_once(workshop: Workshop) -> None:
    release = anyio.Event()

    async def wait(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        await release.wait()
        return [understood(event.goal)]

    stage = intake_stage(wait, Policy(concurrency=8))
    await workshop.publish(*["one of many"] * 2_000)
    async with workshop.working(stage) as worker:
        await eventually(lambda: pending_is(workshop, stage, 8))
        await anyio.sleep(0.3)  # time to read too much, if it would
        assert await workshop.pending(stage) == 8
        worker.stop()
        release.set()
    assert await workshop.pending(stage) == 0


async def pending_is(workshop: Workshop, stage: Any, expected: int) -> bool:
    return await workshop.pending(stage) == expected


async def test_an_event_of_ten_megabytes_is_given_up_with_the_reason_and_others_go_on(workshop: Workshop) -> None:
    huge = Envelope("huge", "run-huge", 1, datetime.now(UTC), "user", GoalSubmitted(goal="x" * 10_000_000))
    stream = workshop.keys.stream("0", "intake")
    for _ in range(3):
        await workshop.client.xadd(stream, {"type": "GoalSubmitted", "event": encode(huge)})
    await workshop.publish("small")
    async with workshop.working(intake_stage(echo)):
        await eventually(lambda: workshop.entries("results"), within=30)
        await eventually(lambda: dead_are(workshop, 3), within=30)
    assert {letter.error.code for letter in await letters(workshop)} == {"event.too_large"}


async def dead_are(workshop: Workshop, expected: int) -> bool:
    return await count(workshop, "dead") >= expected


async def test_a_stage_that_says_too_much_fails_and_nothing_of_it_goes_on(workshop: Workshop) -> None:
    async def bloat(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        return [understood(event.goal * EVENT_BYTES)]

    async with workshop.working(intake_stage(bloat)):
        await workshop.publish("y")
        await eventually(lambda: dead_are(workshop, 1), within=30)
    assert [letter.error.code for letter in await letters(workshop)] == ["event.too_large"]
    assert await workshop.entries("results") == []


async def test_a_stage_that_always_fails_keeps_nobody_else_from_working(workshop: Workshop) -> None:
    tries: Counter[str] = Counter()

    async def fail(event: GoalUnderstood, _ctx: Any) -> Sequence[Event]:
        tries[event.restated] += 1
        raise RuntimeError("always")

    async def both(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        return [understood(event.goal), RunProgressed(kind="understood", stage="understand")]

    failing: AnyStage = Stage(
        name="plan", reads="plan", accepts=(GoalUnderstood,), emits=(RunProgressed,), handle=fail, policy=QUICK
    )
    async with workshop.working(intake_stage(both, emits=(GoalUnderstood, RunProgressed)), failing):
        await workshop.publish(*[f"goal {number}" for number in range(100)])

        async def done() -> bool:
            return await count(workshop, "results") >= 100 and await count(workshop, "dead") >= 100

        await eventually(done, within=30)
    assert set(tries.values()) == {QUICK.attempts}
    assert await count(workshop, "dead") == 100


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_many_waiting_handlers_share_the_lanes_there_are(workshop: Workshop, concurrency: int) -> None:
    at_once: list[int] = []
    now = 0

    async def wait(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        nonlocal now
        now += 1
        at_once.append(now)
        await anyio.sleep(0.001)
        now -= 1
        return [understood(event.goal)]

    async with workshop.working(intake_stage(wait, Policy(concurrency=concurrency))):
        await workshop.publish(*["wait"] * 50)

        async def all_said() -> bool:
            return await count(workshop, "results") >= 50

        await eventually(all_said)
    assert max(at_once) == concurrency
