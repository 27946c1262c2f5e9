"""Whatever anybody writes to a stream by hand becomes a dead letter with the reason, and the worker goes on."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from schemas.events import Event, GoalSubmitted
from streams.outcome import DeadLetter
from tests.workshop import Workshop, eventually, intake_stage, understood

ENVELOPE = {"id": "e1", "run": "r1", "v": 1, "at": "2026-01-01T00:00:00Z", "trust": "user", "body": {"goal": "x"}}


def json(**changes: Any) -> bytes:
    return msgspec.json.encode({**ENVELOPE, **changes})


GARBAGE: dict[str, tuple[dict[str, bytes], str]] = {
    "no event at all": ({"hello": b"world"}, "entry.malformed"),
    "no type": ({"event": json()}, "entry.malformed"),
    "no event field": ({"type": b"GoalSubmitted"}, "entry.malformed"),
    "unknown type": ({"type": b"Nonsense", "event": json()}, "event.unknown_type"),
    "type that is not text": ({"type": b"\xff\xfe", "event": json()}, "entry.malformed"),
    "not JSON": ({"type": b"GoalSubmitted", "event": b"{oops"}, "event.malformed"),
    "bytes that are not UTF-8": ({"type": b"GoalSubmitted", "event": b'{"id": "\xff"}'}, "event.malformed"),
    "JSON of another shape": ({"type": b"GoalSubmitted", "event": b"[1, 2, 3]"}, "event.malformed"),
    "a field of the wrong type": ({"type": b"GoalSubmitted", "event": json(body={"goal": 7})}, "event.malformed"),
    "a missing field": ({"type": b"GoalSubmitted", "event": json(body={})}, "event.malformed"),
    "a run without an id": ({"type": b"GoalSubmitted", "event": json(run="")}, "event.malformed"),
    "an old version nobody knows": ({"type": b"GoalSubmitted", "event": json(v=0)}, "event.malformed"),
    "a version from the future": ({"type": b"GoalSubmitted", "event": json(v=99)}, "event.newer_version"),
    "a version that is no number": ({"type": b"GoalSubmitted", "event": json(v="1")}, "event.malformed"),
    "an attempt that is no number": (
        {"type": b"GoalSubmitted", "event": json(), "attempt": b"many"},
        "entry.malformed",
    ),
    "an attempt below the first": (
        {"type": b"GoalSubmitted", "event": json(), "attempt": b"-1" + b"0" * 400},
        "entry.malformed",
    ),
    "a history without an end": (
        {
            "type": b"GoalSubmitted",
            "event": json(),
            "attempt": b"2",
            "history": b'[{"attempt":1,"at":"2026-01-01T00:00:00Z","error":{"code":"a","message":"b"},"x":'
            + b"[" * 100_000
            + b"]" * 100_000
            + b"}]",
        },
        "entry.malformed",
    ),
    "an event of another stage": (
        {"type": b"StageFailed", "event": json(body={"stage": "s", "error": {"code": "c", "message": "m"}})},
        "event.unexpected",
    ),
    "deep nesting": ({"type": b"GoalSubmitted", "event": b"[" * 100_000}, "event.malformed"),
}


async def echo(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
    return [understood(event.goal)]


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_becomes_a_dead_letter_with_the_reason_and_the_next_goal_is_handled(
    workshop: Workshop, kind: str
) -> None:
    fields, code = GARBAGE[kind]
    await workshop.client.xadd(workshop.keys.stream("0", "intake"), fields)  # pyright: ignore[reportArgumentType] - bytes are fine
    await workshop.publish("a real goal")
    stage = intake_stage(echo)

    async def both() -> bool:
        return len(await workshop.entries("dead")) == 1 and len(await workshop.entries("results")) == 1

    async with workshop.working(stage):
        await eventually(both)

    letter = msgspec.json.decode((await workshop.entries("dead"))[0].text, type=DeadLetter)
    assert letter.error.code == code
    assert letter.error.message
    assert letter.error.hint
    assert letter.stream == "intake"
    assert await workshop.pending(stage) == 0


async def test_an_id_far_in_the_future_stops_nobody_though_all_later_ids_follow_it(workshop: Workshop) -> None:
    key = workshop.keys.stream("0", "intake")
    await workshop.client.xadd(key, {"a": "b"}, id="9999999999999999-0")

    async def when(_event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        return [understood(str(ctx.now().year))]

    async with workshop.working(intake_stage(when)):
        await workshop.publish("a real goal")

        async def answered() -> bool:
            return len(await workshop.entries("results")) == 1

        await eventually(answered)
    assert await workshop.entries("dead")


async def test_keys_of_the_wrong_type_make_dead_letters_not_endless_retries(workshop: Workshop) -> None:
    async def act(request: str, _key: str) -> str:
        return request

    async def handle(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        return [understood(await ctx.call("act", act, event.goal, str))]

    await workshop.client.set(workshop.keys.journal("run-0"), "not a hash")
    async with workshop.working(intake_stage(handle)):
        await workshop.publish("its journal is broken", "its journal is fine")

        async def both() -> bool:
            return len(await workshop.entries("dead")) == 1 and len(await workshop.entries("results")) == 1

        await eventually(both)
    letter = msgspec.json.decode((await workshop.entries("dead"))[0].text, type=DeadLetter)
    assert "WRONGTYPE" in letter.error.message


async def test_garbage_among_what_waits_for_its_retry_becomes_a_dead_letter_and_the_others_come_back(
    workshop: Workshop,
) -> None:
    delayed = workshop.keys.delayed("0", "intake")
    entry = msgspec.json.encode(["GoalSubmitted", json().decode(), 2, "[]", ""]).decode()
    await workshop.client.zadd(delayed, {"garbage": 1, "1-0 7": 1, f"1-0 {entry}": 2})
    async with workshop.working(intake_stage(echo)):
        await eventually(lambda: workshop.entries("results"))
    letters = [msgspec.json.decode(each.text, type=DeadLetter) for each in await workshop.entries("dead")]
    assert {(letter.error.code, letter.event) for letter in letters} == {
        ("entry.garbled", "garbage"),
        ("entry.garbled", "1-0 7"),
    }


async def test_bytes_in_a_field_that_nobody_reads_keep_no_failing_event_from_being_given_up(
    workshop: Workshop,
) -> None:
    async def fail(_event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        raise ValueError("always")

    event = json()[:-1] + b',"unknown":"\xff"}'
    await workshop.client.xadd(workshop.keys.stream("0", "intake"), {"type": b"GoalSubmitted", "event": event})
    async with workshop.working(intake_stage(fail)):
        await eventually(lambda: workshop.entries("dead"))
    (letter,) = [msgspec.json.decode(each.text, type=DeadLetter) for each in await workshop.entries("dead")]
    assert (letter.error.code, letter.attempts) == ("stage.error", 3)
