"""Dead letters are found by what they are about, and go back once, whoever else tries, with all that was tried."""

from collections.abc import Sequence
from typing import Any

import anyio
import msgspec
import pytest
from redis.exceptions import ResponseError

from schemas.errors import ErrorInfo, InvalidInput
from schemas.events import Event, GoalSubmitted, GoalUnderstood
from streams.connection import Client
from streams.follow import seen
from streams.keys import Keys
from streams.letters import HISTORY, Audit, Letter, Letters, Which
from streams.outcome import DeadLetter, Try
from streams.ranges import Range, parse
from streams.redeliver import Redelivery
from streams.stage import AnyStage, Policy
from tests.workshop import Workshop, eventually, intake_stage, understood

STAGE = "understand"


class Faulty:
    """A stage that fails until it is repaired."""

    def __init__(self) -> None:
        self.repaired = False
        self.times: list[str] = []

    async def __call__(self, event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        self.times.append(ctx.now().isoformat())
        if not self.repaired:
            raise ValueError(f"no {event.goal}")
        return [understood(event.goal)]

    @property
    def stage(self) -> AnyStage:
        return intake_stage(self, policy=Policy(attempts=2, backoff=0.01, backoff_max=0.01))


@pytest.fixture
def workshop(client: Client, prefix: str) -> Workshop:
    return Workshop(client, Keys(prefix, partitions=3))


def letters_of(workshop: Workshop, stage: AnyStage) -> Letters:
    return Letters(workshop.client, workshop.keys, workshop.topology(stage), "somebody")


async def found(letters: Letters, which: Which = Which(), span: Range = Range(), after: str = "") -> list[Letter]:  # noqa: B008
    return [letter async for letter in letters.among(which, span, after)]


async def audit_of(workshop: Workshop) -> list[Audit]:
    lines: list[Audit] = []
    for partition in workshop.keys.everywhere():
        lines += [msgspec.json.decode(e.text, type=Audit) for e in await workshop.entries("audit", partition)]
    return lines


async def of_all(workshop: Workshop, stream: str) -> list[Any]:
    entries = [await workshop.entries(stream, partition) for partition in workshop.keys.of_stream(stream)]
    return [entry for some in entries for entry in some]


async def test_what_was_given_up_goes_back_with_its_history_and_is_done_once(workshop: Workshop) -> None:
    faulty = Faulty()
    letters = letters_of(workshop, faulty.stage)
    async with workshop.working(faulty.stage):
        runs = await workshop.publish(*(f"goal {number}" for number in range(8)))

        async def given_up(count: int = 8) -> bool:
            return len(await found(letters)) == count

        await eventually(given_up)
        again = await found(letters)
        assert all(await letters.redrive(again))

        async def failed_again() -> bool:
            return [len(each.letter.history) for each in await found(letters)] == 8 * [3]

        await eventually(failed_again)
        poisoned = await found(letters)
        for each in poisoned:
            assert [each_try.attempt for each_try in each.letter.history] == [1, 2, 1]
            assert {each_try.error.code for each_try in each.letter.history} == {"stage.error"}
        assert await letters.redrive(again) == 8 * [False], "those are gone"
        assert len(set(faulty.times)) <= 8, "each has still the time at which it first came"

        faulty.repaired = True
        results: list[bool] = []
        async with anyio.create_task_group() as tasks:  # everybody at once

            async def redrive() -> None:
                results.extend(await letters.redrive(poisoned))

            for _ in range(4):
                tasks.start_soon(redrive)
        assert sorted(results) == [*24 * [False], *8 * [True]]

        async def handled() -> bool:
            return len(await of_all(workshop, "results")) >= 8

        await eventually(handled)
    said = await of_all(workshop, "results")
    assert sorted(each.envelope.run for each in said) == sorted(runs)
    assert await found(letters) == []
    audit = await audit_of(workshop)
    assert len(audit) == 16
    assert {(line.action, line.by, line.stage) for line in audit} == {("redrive", "somebody", STAGE)}
    assert {line.what for line in audit[:16]} == {each.name for each in (*again, *poisoned)}
    assert all(line.entry for line in audit)


async def put(workshop: Workshop, number: int, **changes: Any) -> None:
    """A letter as a stage would write it, at time `number`."""
    await workshop.publish(*(f"goal {each}" for each in range(number + 1)))
    run = f"run-{number}"
    (entry,) = [each for each in await of_all(workshop, "intake") if each.envelope.run == run]
    error = ErrorInfo("stage.error" if number % 2 else "stage.timeout", "why")
    letter = DeadLetter(STAGE, "intake", entry.id, error, 2, "GoalSubmitted", entry.text)
    letter = msgspec.structs.replace(letter, **changes)
    dead = workshop.keys.dead(workshop.keys.of_run(run))
    await workshop.client.xadd(
        dead, {"type": "DeadLetter", "event": msgspec.json.encode(letter)}, id=f"{1000 + number}-0"
    )


async def test_letters_are_found_by_stage_code_run_and_time_a_page_at_a_time(workshop: Workshop) -> None:
    letters = letters_of(workshop, Faulty().stage)
    for number in range(7):
        await put(workshop, number, **({"stage": "elsewhere"} if number == 3 else {}))
    every = await found(letters)
    assert [each.run for each in every] == [f"run-{number}" for number in range(7)]
    assert [each.run for each in await found(letters, Which(stage="elsewhere"))] == ["run-3"]
    assert [each.run for each in await found(letters, Which(code="stage.error"))] == ["run-1", "run-3", "run-5"]
    assert [each.run for each in await found(letters, Which(STAGE, "stage.error", "run-5"))] == ["run-5"]
    assert [each.run for each in await found(letters, span=parse("1002:1003"))] == ["run-2", "run-3"]
    assert [each.run for each in await found(letters, Which(STAGE), parse("-4"))] == [
        "run-2",
        "run-4",
        "run-5",
        "run-6",
    ]
    for place, each in enumerate(every):
        assert await found(letters, after=each.name) == every[place + 1 :]
        assert await letters.named([each.name]) == [each]
    for name in ("0/1-1", "9/1-1", "nonsense", "0/x-y", "", f"0/{2**70}-0"):
        with pytest.raises(InvalidInput, match=r"dead\.unknown"):
            await letters.named([name])


async def test_what_can_not_go_back_says_why_and_can_be_corrected_or_dropped(workshop: Workshop) -> None:
    letters = letters_of(workshop, Faulty().stage)
    for number, change in enumerate([{}, {"stage": "gone"}, {"event": ""}, {"type": "Nonsense"}, {"event": "{"}]):
        await put(workshop, number, **change)
    await workshop.client.xadd(workshop.keys.dead("0"), {"hello": b"\xff"}, id="2000-0")
    every = await found(letters)
    whys = await letters.hindered(every)
    assert [why.partition(":")[0] for why in whys[:5]] == [
        "",
        "there is no stage 'gone' here to give it to",
        "its event is lost",
        "understand takes no Nonsense",
        "its event can't be read",
    ]
    assert whys[5].startswith("there is no stage ''")
    good, broken = every[0], every[4]
    assert await letters.replace(broken, msgspec.structs.replace(broken.letter, event=good.letter.event))
    assert not await letters.replace(broken, good.letter), "it is another one now"
    assert (await letters.hindered(await found(letters, span=parse("-1")))) == [""]
    assert await letters.drop([*every[1:4], every[5]]) == 4 * [True]
    assert [line.action for line in await audit_of(workshop)].count("drop") == 4
    await workshop.client.delete(workshop.keys.run(workshop.keys.of_run("run-0"), "run-0"))
    assert "nothing of its run is kept" in (await letters.hindered([good]))[0]


async def test_a_history_has_an_end_and_a_wrong_key_loses_no_letter(workshop: Workshop) -> None:
    letters = letters_of(workshop, Faulty().stage)
    await put(workshop, 0)
    (letter,) = await found(letters)
    tries = tuple(Try(1, letter_at, ErrorInfo("x", "y")) for letter_at in 300 * [_moment()])
    long = letter._replace(letter=msgspec.structs.replace(letter.letter, history=tries))
    audit = workshop.keys.audit(letter.partition)
    await workshop.client.set(audit, "not a stream")
    with pytest.raises(ResponseError, match="should be a stream"):
        await letters.redrive([letter])
    assert await found(letters) == [letter]
    await workshop.client.delete(audit)
    assert await letters.redrive([long]) == [True]
    stream = workshop.keys.stream(letter.partition, "intake")
    ((_, fields),) = await workshop.client.xrevrange(stream, count=1)
    assert len(msgspec.json.decode(fields[b"history"])) == HISTORY
    assert seen("", b"1-0", fields).envelope


def _moment() -> Any:
    return msgspec.json.decode(b'"2026-11-21T10:00:00Z"', type=Try.__annotations__["at"])


async def test_a_range_goes_to_its_stage_once_more_without_what_is_done_or_will_come_anyway(workshop: Workshop) -> None:
    silent = set[str]()

    async def handle(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
        handled.append(event.goal)
        return [] if event.goal in silent else [understood(event.goal)]

    handled: list[str] = []
    silent |= {"goal 1", "goal 4"}
    stage = intake_stage(handle, emits=(GoalUnderstood,))
    topology = workshop.topology(stage)

    async def plan(*, force: bool = False, span: str = "start", do: bool = False) -> tuple[list[tuple[str, str]], int]:
        redelivery = Redelivery(workshop.client, workshop.keys, topology, stage, force=force)
        fates, given = list[tuple[str, str]](), 0
        async for batch in redelivery.planned(parse(span)):
            fates += [(msgspec.json.decode(each.entry.text)["body"]["goal"], each.fate) for each in batch]
            given += await redelivery.again(batch) if do else 0
        return sorted(fates), given

    goals = [f"goal {number}" for number in range(6)]
    async with workshop.working(stage):
        await workshop.publish(*goals)
        await eventually(lambda: _is(len(handled) == 6))
        await eventually(lambda: _settled(workshop))
    fates, _ = await plan()
    assert fates == [(goal, "again" if goal in silent else "done") for goal in goals]
    await workshop.publish(*goals, "goal 6")
    assert (await plan())[0][-1] == ("goal 6", "waiting")
    await workshop.client.delete(workshop.keys.run(workshop.keys.of_run("run-1"), "run-1"))
    assert (await plan())[0][1] == ("goal 1", "forgotten")
    assert (await plan(do=True))[1] == 1
    assert (await plan(do=True))[1] == 0, "the new one waits, the old one was redelivered"
    async with workshop.working(stage):
        await eventually(lambda: _is(sorted(handled) == sorted([*goals, "goal 4", "goal 6"])))
        await eventually(lambda: _settled(workshop))
        assert (await plan(do=True))[1] == 0
        assert (await plan(force=True, do=True))[1] == 8
        await eventually(lambda: _is(len(handled) == 16))
    assert [line.action for line in await audit_of(workshop)] == 9 * ["redeliver"]


async def test_what_changed_a_state_without_a_word_or_was_answered_is_done(workshop: Workshop) -> None:
    async def handle(_event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        ctx.state = Seen(ctx.state.goals + 1)
        return []

    stage = intake_stage(handle, state=Seen)
    topology = workshop.topology(stage)
    async with workshop.working(stage):
        await workshop.publish("goal 0")
        await eventually(lambda: _settled(workshop))
    redelivery = Redelivery(workshop.client, workshop.keys, topology, stage)
    fates = [each.fate async for batch in redelivery.planned(parse("start")) for each in batch]
    assert fates == ["done"]


class Seen(msgspec.Struct, frozen=True):
    """How many goals came."""

    goals: int = 0


async def _is(value: bool) -> bool:
    return value


async def _settled(workshop: Workshop) -> bool:
    pending = 0
    for partition in workshop.keys.of_stream("intake"):
        pending += (await workshop.client.xpending(workshop.keys.stream(partition, "intake"), STAGE))["pending"]
    return not pending
