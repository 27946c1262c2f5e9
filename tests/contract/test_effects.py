"""Effects: recorded before anything that follows from them can be seen, and never done again."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import anyio
import msgspec
import pytest

from schemas.errors import EffectFailed, NotReachable, OutcomeUnknown, ToolRefused
from schemas.events import Event, GoalSubmitted, InferenceRequested
from schemas.inference import Question
from schemas.plan import Usage
from streams.journal import Journal, Record, request_hash
from streams.outcome import DeadLetter
from streams.stage import AnyStage, Effects, Snooze, Stage
from streams.worker import Terms
from tests.workshop import QUICK, TERMS, To, Workshop, eventually, intake_stage, understood


async def ended(workshop: Workshop) -> bool:
    return bool(await workshop.entries("results") or await workshop.entries("dead"))


async def only_letter(workshop: Workshop) -> DeadLetter:
    (entry,) = await workshop.entries("dead")
    return msgspec.json.decode(entry.text, type=DeadLetter)


async def test_an_action_is_done_once_though_its_handler_runs_again(workshop: Workshop) -> None:
    done: list[str] = []
    tries: list[int] = []

    async def act(request: str, key: str) -> str:
        done.append(key)
        return request.upper()

    async def handle(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        result = await ctx.call("shout", act, event.goal, str)
        tries.append(1)
        if len(tries) < 2:
            raise ValueError("after the action")
        return [understood(result)]

    async with workshop.working(intake_stage(handle)):
        (run,) = await workshop.publish("hello")
        await eventually(lambda: ended(workshop))
    assert len(done) == 1
    (body,) = await workshop.bodies("results")
    assert '"HELLO"' in msgspec.json.encode(body).decode()
    assert list(await Journal(workshop.client, workshop.keys).everything(run)) == done


async def test_asking_for_something_else_under_the_same_name_is_a_loud_error(workshop: Workshop) -> None:
    tries: list[int] = []

    async def act(request: int, _key: str) -> int:
        return request

    async def fickle(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        tries.append(1)
        await ctx.call("number", act, len(tries), int)
        raise ValueError("again, please")

    async with workshop.working(intake_stage(fickle)):
        await workshop.publish("x")
        await eventually(lambda: ended(workshop))
    assert (await only_letter(workshop)).error.code == "journal.changed"


@pytest.mark.parametrize(("effects", "times"), [("none", 2), ("repeat", 2), ("unknown", 1)])
async def test_after_a_crash_in_mid_action_its_policy_decides(workshop: Workshop, effects: Effects, times: int) -> None:
    keys: list[str] = []
    verdicts: list[str] = []

    async def act(_request: str, key: str) -> str:
        keys.append(key)
        if len(keys) == 1:
            raise RuntimeError("the process dies here, with the action done and nothing recorded")
        return "done"

    async def handle(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        try:
            await ctx.call("pay", act, event.goal, str, effects=effects)
        except OutcomeUnknown as problem:
            verdicts.append(problem.code)
        return [understood(event.goal)]

    async with workshop.working(intake_stage(handle)):
        await workshop.publish("once")
        await eventually(lambda: ended(workshop))
    assert len(keys) == times
    assert len(set(keys)) == 1, "every repeat carries the same idempotency key"
    assert verdicts == (["effect.unknown"] if effects == "unknown" else [])


async def test_a_final_error_of_an_action_is_recorded_and_raised_alike_again(workshop: Workshop) -> None:
    calls: list[int] = []
    caught: list[str] = []

    async def refuse(_request: str, _key: str) -> str:
        calls.append(1)
        raise ToolRefused("path.outside", "No.", "Stay inside.")

    async def handle(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        try:
            await ctx.call("read", refuse, event.goal, str)
        except EffectFailed as problem:
            caught.append(f"{problem.code} {problem.hint}")
        if len(caught) < 2:
            raise ValueError("again")
        return [understood("x")]

    async with workshop.working(intake_stage(handle)):
        await workshop.publish("x")
        await eventually(lambda: ended(workshop))
    assert (len(calls), caught) == (1, ["path.outside Stay inside."] * 2)


async def test_a_passing_error_of_an_action_is_not_recorded_and_the_retry_does_it_again(workshop: Workshop) -> None:
    calls: list[int] = []

    async def flaky(_request: str, _key: str) -> str:
        calls.append(1)
        if len(calls) == 1:
            raise NotReachable("server.unreachable", "It is away.")
        return "there"

    async def handle(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        return [understood(await ctx.call("get", flaky, event.goal, str))]

    async with workshop.working(intake_stage(handle)):
        await workshop.publish("x")
        await eventually(lambda: ended(workshop))
    assert len(calls) == 2
    assert await workshop.entries("dead") == []


async def test_the_first_record_of_an_effect_stays_and_an_intent_is_recorded_once(workshop: Workshop) -> None:
    journal = Journal(workshop.client, workshop.keys)
    assert await journal.intend("run", "e/pay")
    assert not await journal.intend("run", "e/pay")
    first, second = (Record("call", "hash", datetime.now(UTC), msgspec.Raw(result)) for result in (b"1", b"2"))
    assert await journal.write("run", "e/pay", first) == first
    assert await journal.write("run", "e/pay", second) == first
    assert await journal.read("run", "e/pay") == first
    assert await journal.everything("run") == {"e/pay": first}


async def test_a_hint_is_heard_whichever_server_it_is_given_to(workshop: Workshop) -> None:
    servers: dict[bytes, Any] = {b"%d" % number: each for number, each in enumerate(await workshop.client.masters())}
    heard: set[bytes] = set()
    async with workshop.client.pubsub() as subscription:
        await subscription.subscribe("here")
        with anyio.fail_after(10):
            while heard != set(servers):  # one may be lost: servers of a cluster pass them on without a receipt
                for number, server in servers.items():
                    await server.publish("here", number)
                if message := await subscription.get_message(ignore_subscribe_messages=True, timeout=0.1):
                    heard.add(message["data"])


class Verdict(msgspec.Struct):
    score: Annotated[int, msgspec.Meta(ge=0, le=10)]


QUESTION = Question(system="Judge.", user="<text>it works</text>", answer=Verdict)


def asking() -> AnyStage:
    async def handle(_event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        try:
            verdict = await ctx.ask("judge", QUESTION)
        except EffectFailed as problem:
            return [understood(problem.code)]
        return [understood(f"{verdict.score} {ctx.usage().calls} {ctx.trust}")]

    return intake_stage(handle)


def answering(workshop: Workshop, *texts: str) -> AnyStage:
    """An inference stage with a fixed script instead of a model."""
    journal, left = Journal(workshop.client, workshop.keys), list(texts)

    async def handle(event: InferenceRequested, ctx: Any) -> Sequence[Event]:
        result = msgspec.Raw(msgspec.json.encode(left.pop(0)))
        record = Record("ask", event.request, datetime.now(UTC), result, usage=Usage("script", 1, 10, 5))
        await journal.answer(ctx.run_id, event.effect, record, event.reply_to)
        return []

    return Stage("infer.local", (InferenceRequested,), (), handle, "infer.local", QUICK)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (['{"score": 7}'], "7 1 model"),
        (['{"score": 70}', '{"score": 7}'], "7 2 model"),
        (["what?", '{"score": "high"}'], "model.invalid"),
    ],
    ids=["right at once", "right after one repair", "never right"],
)
async def test_answers_are_checked_against_the_questions_type_and_repaired_once(
    workshop: Workshop, texts: list[str], said: str
) -> None:
    stages = asking(), answering(workshop, *texts)
    async with workshop.working(*stages, router=To()):
        await workshop.publish("x")
        await eventually(lambda: ended(workshop))
    (body,) = await workshop.bodies("results")
    assert getattr(body, "restated", None) == said


async def test_an_answer_that_came_while_the_stage_was_dead_is_used_and_the_question_put_once(
    workshop: Workshop,
) -> None:
    hasty = Terms(lease=TERMS.lease, grace=0.0)
    async with workshop.working(asking(), router=To(), terms=hasty):
        await workshop.publish("x")
        await eventually(lambda: workshop.entries("infer.local", "infer"))
    stages = asking(), answering(workshop, '{"score": 3}')
    async with workshop.working(*stages, router=To()):
        await eventually(lambda: ended(workshop))
    (body,) = await workshop.bodies("results")
    assert getattr(body, "restated", None) == "3 1 model"
    assert len(await workshop.entries("infer.local", "infer")) == 1


async def test_no_model_and_no_answer_in_time_are_typed_failures_that_stay(workshop: Workshop) -> None:
    hurried = Terms(lease=TERMS.lease, grace=TERMS.grace, model_timeout=0.2)
    async with workshop.working(asking(), router=To(), terms=hurried):
        (run,) = await workshop.publish("x")
        await eventually(lambda: ended(workshop))
    (body,) = await workshop.bodies("results")
    assert getattr(body, "restated", None) == "model.late"
    # The answer that comes too late changes nothing.
    journal = Journal(workshop.client, workshop.keys)
    ((effect, before),) = (await journal.everything(run)).items()
    late = Record("ask", before.request, datetime.now(UTC), msgspec.Raw(b'"late"'))
    assert await journal.write(run, effect, late) == before


@pytest.mark.parametrize("then", ["settled", "an action", "a question"])
async def test_who_was_overtaken_in_looking_something_up_takes_what_the_other_one_saw(
    workshop: Workshop, then: str
) -> None:
    looked: list[str] = []
    journal = Journal(workshop.client, workshop.keys)

    async def look(request: str, key: str) -> str:
        looked.append(key)
        if len(looked) == 1:  # meanwhile another worker, which also holds the entry, has recorded what it saw
            seen = Record("call", request_hash([request]), datetime.now(UTC), msgspec.Raw(b'"theirs"'))
            await journal.write("run-0", key, seen)
        return "ours"

    async def act(request: str, _key: str) -> str:
        return request

    async def handle(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        seen = await ctx.call("look", look, event.goal, str)
        if then == "an action":
            seen = await ctx.call("act", act, seen, str, "repeat")
        if then == "a question":
            with pytest.raises(EffectFailed):
                await ctx.ask("ask", Question(system="", user=seen, answer=str))
        return [understood(seen)]

    async with workshop.working(intake_stage(handle)):
        await workshop.publish("what is there?")
        await eventually(lambda: ended(workshop))
    (body,) = await workshop.bodies("results")
    assert '"theirs"' in msgspec.json.encode(body).decode()
    assert len(looked) == 1
    await journal.close()


async def test_many_looks_of_one_handling_are_all_recorded(workshop: Workshop) -> None:
    async def look(request: int, _key: str) -> str:
        return "x" * (100_000 if request == 50 else 10)

    async def handle(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        for number in range(100):
            await ctx.call(f"look {number}", look, number, str)
        return [understood(event.goal)]

    async with workshop.working(intake_stage(handle)):
        (run,) = await workshop.publish("look around")
        await eventually(lambda: ended(workshop))
    journal = Journal(workshop.client, workshop.keys)
    assert len(await journal.everything(run)) == 100
    await journal.close()


async def test_what_was_looked_up_and_the_time_stay_the_same_after_a_snooze_and_a_failure(workshop: Workshop) -> None:
    looked: list[str] = []
    times: list[datetime] = []

    async def look(request: str, _key: str) -> int:
        looked.append(request)
        return len(looked)

    async def handle(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        times.append(ctx.now())
        await ctx.call("look", look, ctx.now().isoformat(), int)
        if len(times) == 1:
            raise Snooze(0.01)
        if len(times) == 2:
            raise ValueError("not yet")
        return [understood(event.goal)]

    async with workshop.working(intake_stage(handle)):
        await workshop.publish("later")
        await eventually(lambda: ended(workshop))
    assert len(times) == 3
    assert len(set(times)) == 1
    assert len(looked) == 1
    assert await workshop.entries("dead") == []


async def test_an_action_that_says_nothing_was_done_is_tried_again_whatever_its_policy(workshop: Workshop) -> None:
    tried: list[str] = []

    async def send(request: str, _key: str) -> str:
        tried.append(request)
        if len(tried) == 1:
            raise NotReachable("mail.away", "The mail server is away.", "Wait.")
        return "sent"

    async def handle(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        return [understood(await ctx.call("send", send, event.goal, str, "unknown"))]

    async with workshop.working(intake_stage(handle)):
        await workshop.publish("a letter")
        await eventually(lambda: ended(workshop))
    assert len(tried) == 2
    assert await workshop.entries("dead") == []


async def test_a_record_that_is_none_ends_as_a_dead_letter(workshop: Workshop) -> None:
    done: list[str] = []

    async def look(_request: str, key: str) -> str:
        done.append(key)
        run, field = "run-0", key
        await workshop.client.hset(workshop.keys.journal(run), field, "")
        return "ours"

    async def handle(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        return [understood(await ctx.call("look", look, event.goal, str))]

    async with workshop.working(intake_stage(handle)):
        await workshop.publish("x")
        await eventually(lambda: ended(workshop))
    assert (await only_letter(workshop)).error.code == "journal.broken"
    assert len(done) == 1
