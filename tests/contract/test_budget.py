"""A run's limits go wherever its events go, and what is reserved of them is reserved once."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.errors import ErrorInfo
from schemas.events import (
    CancelRequested,
    Event,
    GoalSubmitted,
    GoalUnderstood,
    Metadata,
    RunFinished,
    StageFailed,
)
from schemas.plan import Limits
from streams.budget import KEEP
from streams.stage import AnyStage, Stage
from tests.workshop import TERMS, Workshop, eventually, intake_stage, understood

NONE = Metadata(model="", source="rules", delegated_to=None, tokens_in=0, tokens_out=0, seconds=0.0, steps=())
ERROR = ErrorInfo("some.code", "It went wrong.")
SOON = datetime.now(UTC) + timedelta(hours=1)
LIMITS = Limits(tokens=1000, calls=3, ends=SOON)


async def submit(workshop: Workshop, limits: Limits | None, goal: str = "x", run: str = "run-0") -> None:
    await workshop.publisher.publish([(run, GoalSubmitted(goal=goal))], "intake", limits=limits)


async def said(workshop: Workshop, count: int = 1) -> list[str]:
    """Wait for `count` results; what they say."""

    async def there() -> bool:
        return len(await workshop.entries("results")) >= count

    await eventually(there)
    assert await workshop.entries("dead") == []
    return [body.restated for body in await workshop.bodies("results") if isinstance(body, GoalUnderstood)]


async def budget(workshop: Workshop, run: str = "run-0") -> dict[str, int]:
    """A run's totals."""
    found: Any = await workshop.client.hgetall(workshop.keys.budget(run))
    return {name.decode(): int(value) for name, value in found.items() if value.isdigit() and b"/" not in name}


async def test_limits_are_those_of_all_that_follows_and_of_what_comes_later_from_outside(workshop: Workshop) -> None:
    async def first(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        return [understood(event.goal)]

    async def second(event: GoalUnderstood | CancelRequested, ctx: Any) -> Sequence[Event]:
        assert ctx.limits == LIMITS
        return [StageFailed(stage=type(event).__name__, error=ERROR)]

    stages: list[AnyStage] = [
        intake_stage(first),
        Stage("plan", (GoalUnderstood, CancelRequested), (StageFailed,), second, "plan"),
    ]
    async with workshop.working(*stages):
        await submit(workshop, LIMITS)
        await said(workshop, 1)
        await workshop.publisher.add("run-0", CancelRequested(), "plan")
        await said(workshop, 2)
        await workshop.publisher.add("run-unknown", CancelRequested(), "elsewhere")
    found = [entry.envelope.limits for entry in await workshop.entries("results") if entry.envelope]
    assert found == [LIMITS, LIMITS]
    (outside,) = await workshop.entries("elsewhere")
    assert outside.envelope
    assert outside.envelope.limits is None
    assert b'"limits"' not in await workshop.client.hget(workshop.keys.run("0", "run-unknown"), "CancelRequested")


@pytest.mark.parametrize("limits", [None, Limits(), Limits(ends=SOON)], ids=["none", "empty", "a time"])
async def test_without_limits_on_tokens_and_calls_all_is_granted_and_the_server_hears_of_nothing(
    workshop: Workshop, limits: Limits | None
) -> None:
    async def handle(_event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        granted = await ctx.reserve("work", 5_000_000)
        await ctx.spend("work", 7_000_000, 3)
        return [understood(str(granted))]

    async with workshop.working(intake_stage(handle)):
        await submit(workshop, limits)
        assert await said(workshop) == ["5000000"]
    assert not await workshop.client.exists(workshop.keys.budget("run-0"))


async def test_work_for_others_gets_what_is_left_and_counts_as_what_it_cost(workshop: Workshop) -> None:
    async def handle(_event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        first = await ctx.reserve("first", 700)
        second = await ctx.reserve("second", 700)
        third = await ctx.reserve("third", 700)
        await ctx.spend("first", 250, 1)
        await ctx.spend("first", 999, 9)  # once is enough
        await ctx.spend("nobody", 999, 9)  # what was not reserved
        fourth = await ctx.reserve("fourth", 100)
        no_call = await ctx.reserve("fifth", 1)
        return [understood(f"{first} {second} {third} {fourth} {no_call}")]

    async with workshop.working(intake_stage(handle)):
        await submit(workshop, LIMITS)
        assert await said(workshop) == ["700 300 0 100 0"]
    assert await budget(workshop) == {"used": 250, "reserved": 400, "calls": 3}


async def test_after_a_deadline_nothing_is_granted(workshop: Workshop) -> None:
    async def handle(_event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        return [understood(str(await ctx.reserve("work", 700)))]

    async with workshop.working(intake_stage(handle)):
        await submit(workshop, Limits(ends=datetime(2026, 1, 1, tzinfo=UTC)))
        assert await said(workshop) == ["0"]


@pytest.mark.parametrize("refused", [False, True])
async def test_what_was_granted_or_refused_is_the_same_when_an_event_is_handled_again(
    workshop: Workshop, refused: bool
) -> None:
    granted: list[int] = []

    async def act(_request: str, _key: str) -> str:
        return "done"

    async def handle(_event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        granted.append(await ctx.reserve("work", 700))
        if len(granted) == 1:
            raise ValueError("before anything is recorded")
        await ctx.call("act", act, "x", str, effects="repeat")
        if refused:
            await workshop.client.delete(workshop.keys.budget("run-0"))  # now there would be room
        if len(granted) == 2:
            raise ValueError("after the record")
        await ctx.spend("work", 10, 1)
        return [understood("x")]

    async with workshop.working(intake_stage(handle)):
        if refused:
            await workshop.client.hset(workshop.keys.budget("run-0"), mapping={"used": 1000})
        await submit(workshop, LIMITS)
        await said(workshop)
    assert granted == [0 if refused else 700] * 3
    assert await budget(workshop) == ({} if refused else {"used": 10, "reserved": 0, "calls": 1})


async def test_a_budget_goes_some_time_after_its_runs_end_or_by_itself(workshop: Workshop) -> None:
    async def handle(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        await ctx.reserve("work", 100)
        if event.goal == "goes on":
            return [understood(event.goal)]
        return [RunFinished(status="completed", output="", method="rules", metadata=NONE, stages=())]

    async with workshop.working(intake_stage(handle, emits=(GoalUnderstood, RunFinished))):
        await submit(workshop, LIMITS, "goes on", "lasting")
        await submit(workshop, LIMITS, "ends", "ended")
        await said(workshop, 2)
    assert TERMS.keep < await workshop.client.ttl(workshop.keys.budget("lasting")) <= KEEP
    assert 0 < await workshop.client.ttl(workshop.keys.budget("ended")) <= TERMS.keep
