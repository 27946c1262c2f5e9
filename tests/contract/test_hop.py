"""What a user can rely on when an event is handled."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import anyio
import msgspec

from schemas.errors import ErrorInfo, InvalidInput
from schemas.events import Event, GoalSubmitted, GoalUnderstood, Metadata, RunFinished, StageFailed
from streams.outcome import DeadLetter
from streams.stage import Policy, Reject, Snooze
from streams.worker import Terms
from tests.workshop import QUICK, TERMS, Workshop, eventually, intake_stage, understood


async def echo(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
    return [understood(event.goal)]


async def dead_letters(workshop: Workshop) -> list[DeadLetter]:
    return [msgspec.json.decode(entry.text, type=DeadLetter) for entry in await workshop.entries("dead")]


async def test_each_event_is_answered_once_and_acknowledged(workshop: Workshop) -> None:
    stage = intake_stage(echo)
    goals = [f"goal {n}" for n in range(300)]
    async with workshop.working(stage):
        runs = await workshop.publish(*goals)
        await eventually(lambda: said(workshop, 300))
    entries = await workshop.entries("results")
    assert sorted(e.envelope.run for e in entries if e.envelope) == sorted(runs)
    assert await workshop.pending(stage) == 0


async def said(workshop: Workshop, count: int) -> bool:
    return len(await workshop.entries("results")) >= count


async def test_an_event_says_what_caused_it_and_keeps_its_id_however_often_it_is_handled(workshop: Workshop) -> None:
    async with workshop.working(intake_stage(echo)):
        await workshop.publish("once")
        await eventually(lambda: said(workshop, 1))
    (first,) = await workshop.entries("intake")
    (second,) = await workshop.entries("results")
    assert first.envelope
    assert second.envelope
    assert second.envelope.cause == first.envelope.id
    # Handled again by a group that knows nothing of the first time, it would say the same under the same id.
    await workshop.client.xgroup_destroy(workshop.keys.stream("0", "intake"), "understand")
    async with workshop.working(intake_stage(echo)):
        await eventually(lambda: said(workshop, 2))
    again = (await workshop.entries("results"))[1]
    assert again.envelope
    assert again.envelope.id == second.envelope.id


async def test_publishing_again_adds_nothing(workshop: Workshop) -> None:
    await workshop.publish("the same")
    await workshop.publish("the same")
    assert len(await workshop.entries("intake")) == 1


async def test_a_failing_handler_is_tried_again_later_as_a_second_attempt(workshop: Workshop) -> None:
    tries: list[int] = []

    async def second_time(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        tries.append(1)
        if len(tries) < 2:
            raise ValueError("not yet")
        return [understood(event.goal)]

    async with workshop.working(intake_stage(second_time)):
        await workshop.publish("patience")
        await eventually(lambda: said(workshop, 1))
    assert len(tries) == 2
    assert await workshop.entries("dead") == []
    found: Any = await workshop.client.xrange(workshop.keys.stream("0", "intake"))
    (first, before), (second, after) = found
    assert (after[b"type"], after[b"event"], after[b"attempt"]) == (before[b"type"], before[b"event"], b"2")
    assert milliseconds(second) - milliseconds(first) >= 0.75 * 1000 * QUICK.backoff, "by the server's clock"


def milliseconds(entry_id: bytes) -> int:
    return int(entry_id.split(b"-")[0])


async def test_a_handler_that_always_fails_ends_as_a_dead_letter_and_its_run_hears_of_it(workshop: Workshop) -> None:
    async def never(_event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        raise ValueError("broken for good")

    async def on_dead(_event: GoalSubmitted | None, error: ErrorInfo, _ctx: Any) -> Sequence[Event]:
        return [StageFailed(stage="understand", error=error)]

    stage = intake_stage(never, Policy(attempts=2, backoff=0.01), on_dead=on_dead, emits=(GoalUnderstood, StageFailed))
    async with workshop.working(stage):
        await workshop.publish("hopeless")
        await eventually(lambda: said(workshop, 1))
    (letter,) = await dead_letters(workshop)
    assert (letter.stage, letter.attempts, letter.error.code) == ("understand", 2, "stage.error")
    assert "broken for good" in letter.error.message
    assert "hopeless" in letter.event
    (failed,) = await workshop.bodies("results")
    assert isinstance(failed, StageFailed)


async def test_a_dead_letter_tells_where_each_try_failed(workshop: Workshop) -> None:
    tries: list[int] = []

    async def worse_each_time(_event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        tries.append(1)
        raise [ValueError("first"), KeyError("second"), ValueError("third")][len(tries) - 1]

    async with workshop.working(intake_stage(worse_each_time)):
        await workshop.publish("hopeless")
        await eventually(lambda: one_dead(workshop))
    (letter,) = await dead_letters(workshop)
    assert [(each.attempt, each.error.message) for each in letter.history] == [
        (1, "ValueError: first"),
        (2, "KeyError: 'second'"),
    ]
    assert letter.error.message == "ValueError: third"
    assert letter.trace.splitlines()[-1].startswith("contract/test_hop.py:")
    assert letter.trace.endswith("worse_each_time")
    first, second = (each.digest for each in letter.history)
    assert first == letter.digest, "the same exception from the same place"
    assert second != first


async def test_an_output_that_has_no_place_is_kept_until_it_has_one(workshop: Workshop) -> None:
    results = workshop.keys.stream("0", "results")
    await workshop.client.set(results, "somebody's own")
    stage = intake_stage(echo)
    async with workshop.working(stage):
        await workshop.publish("keep me")
        await eventually(lambda: workshop.pending(stage))
        await workshop.client.delete(results)
        await eventually(lambda: said(workshop, 1))
    assert await workshop.pending(stage) == 0


NONE = Metadata(model="", source="rules", delegated_to=None, tokens_in=0, tokens_out=0, seconds=0.0, steps=())


async def test_what_is_kept_of_a_run_goes_some_time_after_its_end(workshop: Workshop) -> None:
    async def handle(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        async def act(_request: str, _key: str) -> str:
            return "done"

        await ctx.call("act", act, event.goal, str)
        if event.goal == "goes on":
            return [understood(event.goal)]
        return [RunFinished(status="completed", output="", method="rules", metadata=NONE, stages=())]

    async with workshop.working(intake_stage(handle, emits=(GoalUnderstood, RunFinished))):
        lasting, ended = await workshop.publish("goes on", "ends")
        await eventually(lambda: said(workshop, 2))
    for run, expected in ((lasting, {-1}), (ended, range(1, int(TERMS.keep) + 1))):
        assert await workshop.client.ttl(workshop.keys.run("0", run)) in expected
        assert await workshop.client.ttl(workshop.keys.journal(run)) in expected


async def test_snooze_brings_the_event_back_without_counting_an_attempt(workshop: Workshop) -> None:
    seen: list[int] = []

    async def sleepy(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        seen.append(1)
        if len(seen) == 1:
            raise Snooze(0.01)
        return [understood(event.goal)]

    async with workshop.working(intake_stage(sleepy, Policy(attempts=1))):
        await workshop.publish("later")
        await eventually(lambda: said(workshop, 1))
    assert await workshop.entries("dead") == []


async def test_reject_and_final_errors_make_dead_letters_at_once(workshop: Workshop) -> None:
    async def refuse(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        raise Reject("no such thing") if event.goal == "a" else InvalidInput("goal.bad", "It is bad.", "Mend it.")

    async with workshop.working(intake_stage(refuse)):
        await workshop.publish("a", "b")
        await eventually(lambda: two_dead(workshop))
    letters = await dead_letters(workshop)
    assert {letter.error.code for letter in letters} == {"stage.rejected", "goal.bad"}
    assert {letter.attempts for letter in letters} == {1}


async def two_dead(workshop: Workshop) -> bool:
    return len(await workshop.entries("dead")) >= 2


async def test_a_handler_over_its_time_is_stopped_and_others_go_on(workshop: Workshop) -> None:
    async def slow(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        if event.goal == "stuck":
            await anyio.sleep(60)
        return [understood(event.goal)]

    policy = Policy(attempts=1, timeout=0.2, concurrency=2)
    async with workshop.working(intake_stage(slow, policy)):
        await workshop.publish("stuck", "fine", "fine too")
        await eventually(lambda: said(workshop, 2))
        await eventually(lambda: one_dead(workshop))
    (letter,) = await dead_letters(workshop)
    assert letter.error.code == "stage.timeout"


async def one_dead(workshop: Workshop) -> bool:
    return len(await workshop.entries("dead")) >= 1


async def test_what_can_not_be_read_becomes_a_dead_letter_and_the_next_is_handled(workshop: Workshop) -> None:
    await workshop.client.xadd(workshop.keys.stream("0", "intake"), {"type": "GoalSubmitted", "event": "{oops"})
    stage = intake_stage(echo)
    async with workshop.working(stage):
        await workshop.publish("fine")
        await eventually(lambda: said(workshop, 1))
        await eventually(lambda: one_dead(workshop))
    (letter,) = await dead_letters(workshop)
    assert (letter.error.code, letter.event) == ("event.malformed", "{oops")
    assert await workshop.pending(stage) == 0


async def test_saying_an_event_that_is_not_declared_is_an_error_not_a_loss(workshop: Workshop) -> None:
    async def wrong(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        return [GoalSubmitted(goal=event.goal)]

    async with workshop.working(intake_stage(wrong)):
        await workshop.publish("loop")
        await eventually(lambda: one_dead(workshop))
    (letter,) = await dead_letters(workshop)
    assert letter.error.code == "stage.undeclared"


async def test_whatever_a_handler_does_its_event_is_given_up_and_the_next_is_handled(workshop: Workshop) -> None:
    class Strange(Exception):
        def __str__(self) -> str:
            raise ValueError("no text either")

    async def strange(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        match event.goal:
            case "exits":
                raise SystemExit(3)
            case "nothing":
                return cast("Any", None)
            case "no event":
                return cast("Any", ["text"])
            case "hides":
                raise Strange
            case "cancels itself":
                raise asyncio.CancelledError
            case "does not listen":
                for _ in range(3):
                    with suppress(asyncio.CancelledError):
                        await anyio.sleep(60)
            case "unwritable":
                raise ValueError("a file called \udcff")
            case "snoozes for ever":
                raise Snooze(float("nan"))
            case "generates":
                return cast("Any", (each for each in [understood("generated")]))
            case _:
                pass
        return [understood(event.goal)]

    goals = ["exits", "nothing", "no event", "hides", "cancels itself", "does not listen", "fine"]
    goals += ["unwritable", "snoozes for ever", "generates"]
    async with workshop.working(intake_stage(strange, Policy(attempts=1, timeout=0.2, concurrency=2))):
        await workshop.publish(*goals)

        async def all_ended() -> bool:
            return len(await workshop.entries("dead")) + len(await workshop.entries("results")) >= len(goals)

        await eventually(all_ended)
    letters = await dead_letters(workshop)
    assert {letter.error.code for letter in letters} == {"stage.error", "stage.undeclared"}
    said = [body.restated for body in await workshop.bodies("results") if isinstance(body, GoalUnderstood)]
    assert sorted(said) == ["does not listen", "fine", "generated"]


async def test_a_stopping_worker_finishes_what_it_holds(workshop: Workshop) -> None:
    release = anyio.Event()

    async def slow(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        await release.wait()
        return [understood(event.goal)]

    stage = intake_stage(slow)
    async with workshop.working(stage) as worker:
        await workshop.publish("one", "two")
        await eventually(lambda: workshop.pending(stage))
        worker.stop()
        release.set()
    assert len(await workshop.entries("results")) == 2
    assert await workshop.pending(stage) == 0
    consumers: Any = await workshop.client.xinfo_consumers(workshop.keys.stream("0", "intake"), "understand")
    assert consumers == []


async def test_what_a_worker_can_not_finish_in_time_another_takes_over_at_once(workshop: Workshop) -> None:
    async def stuck(_event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        await anyio.sleep(60)
        return []

    stage = intake_stage(stuck)
    short = Terms(lease=TERMS.lease, grace=0.1, model_timeout=1.0)
    async with workshop.working(stage, terms=short):
        await workshop.publish("heavy")
        await eventually(lambda: workshop.pending(stage))
    assert await workshop.pending(stage) == 1
    async with workshop.working(intake_stage(echo)):
        await eventually(lambda: said(workshop, 1))
    assert await workshop.pending(stage) == 0


async def test_an_entry_is_readable_on_the_wire_a_type_and_json_in_plain_utf_8(workshop: Workshop) -> None:
    await workshop.publish("Покажи файлы в папке 数据")
    found: Any = await workshop.client.xrange(workshop.keys.stream("0", "intake"))
    ((_, fields),) = found
    assert list(fields) == [b"type", b"event"]
    assert fields[b"type"] == b"GoalSubmitted"
    assert "Покажи файлы в папке 数据" in fields[b"event"].decode()
    envelope = msgspec.json.decode(fields[b"event"])
    assert set(envelope) == {"id", "run", "v", "at", "trust", "body"}
