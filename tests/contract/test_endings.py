"""When a run ends, handlers that are still at work for it are stopped, where their stage wants that."""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any

import anyio
import pytest

from schemas.events import (
    CancelRequested,
    Event,
    GoalSubmitted,
    GoalUnderstood,
    InferenceRequested,
    Metadata,
    RunFinished,
    StageFailed,
)
from schemas.inference import Question
from streams.keys import INFERENCE
from streams.stage import AnyStage, Policy, Snooze, Stage
from streams.worker import Terms
from tests.workshop import TERMS, To, Workshop, eventually, intake_stage, understood

NONE = Metadata(model="", source="rules", delegated_to=None, tokens_in=0, tokens_out=0, seconds=0.0, steps=())
WORDS = Question("Answer.", "<goal>for ever</goal>", str)
STOPS = Policy(attempts=3, backoff=0.05, backoff_max=0.1, timeout=30.0, stops_with_run=True)


async def finish(_event: CancelRequested, _ctx: Any) -> Sequence[Event]:
    return [RunFinished(status="cancelled", output="", method="rules", metadata=NONE, stages=())]


ENDS: AnyStage = Stage("aggregate", (CancelRequested,), (RunFinished,), finish, "aggregate")


def asked() -> AnyStage:
    """An inference stage that never answers."""

    async def silent(_event: Event, _ctx: Any) -> Sequence[Event]:
        await anyio.sleep(60)
        return []

    return Stage("infer.local", (InferenceRequested,), (), silent, "infer.local")


async def end(workshop: Workshop, run: str) -> None:
    """A run's end, as its aggregate says it."""
    await workshop.publisher.add(run, CancelRequested(), "aggregate")

    async def has_ended() -> bool:
        return await workshop.client.pttl(workshop.keys.run(workshop.keys.of_run(run), run)) >= 0

    await eventually(has_ended)


async def said_by(workshop: Workshop) -> dict[str, list[str]]:
    """What each run's events say."""
    found: dict[str, list[str]] = {}
    for entry in await workshop.entries("results"):
        if entry.envelope and isinstance(entry.envelope.body, GoalUnderstood):
            found.setdefault(entry.envelope.run, []).append(entry.envelope.body.restated)
    return found


async def test_handlers_at_work_for_a_run_are_over_within_a_second_of_its_end_and_say_nothing(
    workshop: Workshop,
) -> None:
    begun, freed = set[str](), set[str]()
    go_on = anyio.Event()

    async def handle(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        begun.add(event.goal)
        try:
            match event.goal:
                case "sleeps":
                    await anyio.sleep(60)
                case "asks":
                    await ctx.ask("words", WORDS)
                case "has tasks":
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(anyio.sleep, 60)
                        tasks.start_soon(anyio.sleep, 60)
                case _:
                    await go_on.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.05)  # as one that waits for its child process to go
                freed.add(event.goal)
        return [understood(event.goal)]

    stage = intake_stage(handle, STOPS)
    goals = ["sleeps", "asks", "has tasks", "goes on"]
    async with workshop.working(stage, ENDS, asked(), router=To(), terms=Terms(lease=TERMS.lease, grace=0.1)):
        runs = await workshop.publish(*goals)

        async def all_at_work() -> bool:
            return len(begun) == len(goals) and bool(await workshop.entries("infer.local", INFERENCE))

        await eventually(all_at_work)
        for run in runs[:3]:
            await end(workshop, run)
        ended = monotonic()

        async def over() -> bool:
            return await workshop.pending(stage) == 1

        await eventually(over)
        assert monotonic() - ended < 5.0
        assert freed == set(goals[:3]), "what they held is free before they count as handled"
        await anyio.sleep(0.6)  # the other run is looked at, and goes on
        go_on.set()

        async def all_settled() -> bool:
            return await workshop.pending(stage) == 0

        await eventually(all_settled)
        assert await said_by(workshop) == {runs[3]: ["goes on"]}
        delayed = workshop.keys.delayed("0", "intake")
        assert await workshop.client.zcard(delayed) == 0, "none comes back"
    assert await workshop.entries("dead") == []


async def test_a_stage_that_does_not_stop_with_its_run_finishes_what_it_does(workshop: Workshop) -> None:
    async def handle(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        await anyio.sleep(0.8)
        return [understood(event.goal)]

    stage = intake_stage(handle)
    async with workshop.working(stage, ENDS):
        (run,) = await workshop.publish("takes its time")
        await eventually(lambda: workshop.pending(stage))
        await end(workshop, run)

        async def told() -> bool:
            return bool(await said_by(workshop))

        await eventually(told)


@pytest.mark.parametrize("how", ["snoozes", "fails"])
async def test_an_event_that_would_come_back_does_not_once_its_run_has_ended(workshop: Workshop, how: str) -> None:
    tries: list[int] = []

    async def handle(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        tries.append(1)
        if how == "snoozes" or len(tries) == 1:
            raise Snooze(0.05)
        raise ValueError("again, please")

    policy = Policy(attempts=1000, backoff=0.05, backoff_max=0.05, stops_with_run=True)
    stage = intake_stage(handle, policy)
    async with workshop.working(stage, ENDS):
        (run,) = await workshop.publish("comes again")

        async def often() -> bool:
            return len(tries) > 3

        await eventually(often)
        await end(workshop, run)

        async def at_rest() -> bool:
            count = len(tries)
            await anyio.sleep(0.3)
            return len(tries) == count

        await eventually(at_rest)
        assert await workshop.client.zcard(workshop.keys.delayed("0", "intake")) == 0
        assert await workshop.pending(stage) == 0
    assert await workshop.entries("dead") == []


async def test_stopped_with_its_run_timed_out_and_shut_down_are_three_things(workshop: Workshop) -> None:
    seen: dict[str, int] = {}

    async def handle(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        seen[event.goal] = seen.get(event.goal, 0) + 1
        if event.goal == "shut down" and seen[event.goal] > 1:
            return [understood(event.goal)]
        await anyio.sleep(60)
        return []

    stage = intake_stage(handle, Policy(attempts=1, timeout=1.5, stops_with_run=True))
    hasty = Terms(lease=TERMS.lease, grace=0.0)
    async with workshop.working(stage, ENDS, terms=hasty):
        ended, _ = await workshop.publish("ended", "timed out")
        await eventually(lambda: workshop.pending(stage))
        await end(workshop, ended)

        async def both_over() -> bool:
            return await workshop.pending(stage) == 0 and len(await workshop.entries("dead")) == 1

        await eventually(both_over)
        await workshop.publisher.publish([("run-2", GoalSubmitted(goal="shut down"))], "intake")

        async def begun() -> bool:
            return "shut down" in seen

        await eventually(begun)
    assert await workshop.pending(stage) == 1, "its entry stays for the next worker"
    async with workshop.working(stage, ENDS):

        async def told() -> bool:
            return bool(await said_by(workshop))

        await eventually(told)
    (letter,) = await workshop.entries("dead")
    assert "stage.timeout" in letter.text
    assert '"timed out' in letter.text.replace("\\", "")
    assert await said_by(workshop) == {"run-2": ["shut down"]}
    assert seen == {"ended": 1, "timed out": 1, "shut down": 2}


async def test_a_handler_that_does_not_listen_is_stopped_again(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.lanes.STOP_AGAIN", 0.5)
    stops: list[float] = []

    async def deaf(_event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        while True:
            try:
                await anyio.sleep(60)
            except asyncio.CancelledError:
                stops.append(monotonic())
                if len(stops) == 3:
                    raise

    stage = intake_stage(deaf, STOPS)
    async with workshop.working(stage, ENDS):
        (run,) = await workshop.publish("hard of hearing")
        await eventually(lambda: workshop.pending(stage))
        await end(workshop, run)

        async def over() -> bool:
            return await workshop.pending(stage) == 0

        await eventually(over)
    first, second, third = stops
    assert min(second - first, third - second) > 0.4, "and has time in between"


async def test_a_lane_goes_on_after_its_handler_was_stopped(workshop: Workshop) -> None:
    async def handle(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        if event.goal == "stopped":
            await anyio.sleep(60)
        return [understood(event.goal)]

    stage = intake_stage(handle, Policy(concurrency=1, stops_with_run=True))
    async with workshop.working(stage, ENDS):
        first, second = await workshop.publish("stopped", "next")
        await eventually(lambda: workshop.pending(stage))
        await end(workshop, first)

        async def told() -> bool:
            return await said_by(workshop) == {second: ["next"]}

        await eventually(told)


async def test_the_word_of_an_event_given_up_is_heard_though_its_run_has_ended(workshop: Workshop) -> None:
    async def handle(_event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        raise ValueError("hopeless")

    async def say(_event: GoalSubmitted, error: Any, _ctx: Any) -> Sequence[Event]:
        await anyio.sleep(1.0)
        return [StageFailed(stage="understand", error=error)]

    policy = Policy(attempts=1, stops_with_run=True)
    stage = intake_stage(handle, policy, emits=(GoalUnderstood, StageFailed), on_dead=say)
    async with workshop.working(stage, ENDS):
        (run,) = await workshop.publish("hopeless")
        await eventually(lambda: workshop.pending(stage))
        await end(workshop, run)

        async def told() -> bool:
            return any(isinstance(body, StageFailed) for body in await workshop.bodies("results"))

        await eventually(told)
    assert len(await workshop.entries("dead")) == 1
