"""A question on an inference stream is answered once, into its run's journal, whatever the engine does."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from socket import gethostname
from typing import Any

import anyio
import msgspec
import pytest
from msgspec.structs import replace

from consumers.inference import Desk as InferenceDesk
from consumers.inference import Inference
from consumers.offers import Board, OfferRouter
from llm.engine import Engine, Generation, OnText
from llm.models import Model, Wish
from llm.pool import Pool
from llm.scripted import ScriptedEngine
from schemas.envelope import Envelope, encode
from schemas.errors import CouldNotStart, ErrorInfo, ModelFailed
from schemas.events import ChatMessage, Event, GoalSubmitted, InferenceRequested
from schemas.inference import Answer, Question
from schemas.plan import Usage
from streams.journal import Journal, Record
from streams.keys import INFERENCE
from streams.stage import AnyStage
from tests.workshop import Workshop, eventually, intake_stage, understood

MESSAGES = (ChatMessage("system", "Answer."), ChatMessage("user", "<goal>What is a stream?</goal>"))
SCHEMA = {"type": "object"}


def question(effect: str = "event-1/answer", seconds: float = 30, **more: Any) -> InferenceRequested:
    return InferenceRequested(
        effect=effect,
        request="hash-1",
        messages=MESSAGES,
        max_tokens=20,
        reply_to="worker-1",
        deadline=datetime.now(UTC) + timedelta(seconds=seconds),
        **more,
    )


class Desk:
    """An inference stage at work on a test's server, and what reaches the worker that asked."""

    def __init__(self, workshop: Workshop, local: AnyStage) -> None:
        self.workshop, self.stage = workshop, local
        self.journal = Journal(workshop.client, workshop.keys)
        self.stream = workshop.keys.stream(INFERENCE, "infer.local")
        self.hints: list[str] = []

    async def put(self, *asked: InferenceRequested) -> None:
        """Put questions on the stream, as `ctx.ask` does."""
        for event in asked:
            envelope = Envelope[Event](
                id="q", run="run-1", v=event.version, at=datetime.now(UTC), trust="user", body=event
            )
            await self.workshop.client.xadd(self.stream, {"type": "InferenceRequested", "event": encode(envelope)})

    async def put_background(self, event: InferenceRequested) -> None:
        """Put a question where those go that nobody waits for."""
        envelope = Envelope[Event](id="q", run="run-1", v=event.version, at=datetime.now(UTC), trust="user", body=event)
        entry = {"type": "InferenceRequested", "event": encode(envelope)}
        await self.workshop.client.xadd(f"{self.stream}.background", entry)

    async def settled(self) -> None:
        """Wait until every question was taken and acknowledged."""

        async def done() -> bool:
            (group,) = await self.workshop.client.xinfo_groups(self.stream)
            return not group["pending"] and not group["lag"]

        await eventually(done)

    async def answered(self, effect: str = "event-1/answer") -> Record:
        """Wait until all is settled; the record of an effect."""
        await self.settled()
        record = await self.journal.read("run-1", effect)
        assert record
        return record

    async def listen(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Take hints for the worker that asked."""
        async with self.workshop.client.pubsub() as subscription:
            await subscription.subscribe("worker-1")
            async for message in subscription.listen():
                if message["type"] == "subscribe":
                    task_status.started()
                else:
                    self.hints.append(message["data"].decode())


class Giving:
    """A source that gives engines, or fails, as its script says; what comes last stays."""

    node = ""

    def __init__(self, *engines: Engine | Exception, slots: int = 4) -> None:
        self.slots, self._wanted = slots, list(engines)

    async def models(self) -> Sequence[Model]:
        return [Model("local", "", "scripted", 0, 4096)]

    async def open(self, model: str) -> Engine:
        found = self._wanted.pop(0) if len(self._wanted) > 1 else self._wanted[0]
        if isinstance(found, Exception):
            raise found
        return found

    async def close(self) -> None:
        pass


def consumer(workshop: Workshop, *engines: Engine | Exception, slots: int = 4) -> Inference:
    """An inference consumer of these engines."""
    client, keys = workshop.client, workshop.keys
    at = InferenceDesk(client, keys, Journal(client, keys), Board(client, keys), hold=1.0)
    return Inference("local", slots, lambda: Pool([Giving(*engines, slots=slots)]), at)


@asynccontextmanager
async def desk(workshop: Workshop, *engines: Engine | Exception, slots: int = 4) -> AsyncGenerator[Desk]:
    """Inside, an inference consumer answers; what it gets for an engine comes from `engines`, the last one for good."""
    local = consumer(workshop, *engines, slots=slots)
    interactive, background = local.stages()
    made = Desk(workshop, interactive)
    async with (
        workshop.working(interactive, background, companions=[local.attend]),
        anyio.create_task_group() as listening,
    ):
        await listening.start(made.listen)
        yield made
        listening.cancel_scope.cancel()


async def test_an_answer_is_recorded_and_whoever_waits_hears_of_it(workshop: Workshop) -> None:
    engine = ScriptedEngine(["An append-only log."])
    async with desk(workshop, engine) as at:
        await at.put(question(answer_schema=SCHEMA))
        record = await at.answered()

        async def heard() -> bool:
            return at.hints == ["event-1/answer"]

        await eventually(heard)
    assert msgspec.json.decode(record.result) == "An append-only log."
    assert (record.kind, record.request, record.error) == ("ask", "hash-1", None)
    node = f"local@{gethostname()}"
    assert record.usage == Usage("scripted", 1, tokens_in=5, tokens_out=3, node=node)
    (asked,) = engine.requests
    assert (asked.messages, asked.max_tokens, asked.schema) == (MESSAGES, 20, SCHEMA)
    assert 0 < asked.timeout <= 30


async def test_an_answer_that_is_recorded_is_not_computed_again(workshop: Workshop) -> None:
    engine = ScriptedEngine(["first", "second"])
    async with desk(workshop, engine) as at:
        await at.put(question())
        before = await at.answered()
        await at.put(question())
        assert await at.answered() == before
    assert len(engine.requests) == 1


async def test_a_question_nobody_waits_for_any_more_is_not_answered(workshop: Workshop) -> None:
    engine = ScriptedEngine(["too late"])
    async with desk(workshop, engine) as at:
        await at.put(question(seconds=-0.001))
        await at.settled()
        assert await at.journal.read("run-1", "event-1/answer") is None
    assert engine.requests == []
    assert await workshop.entries("dead", INFERENCE) == []


async def test_an_engine_gets_no_more_time_than_somebody_waits(workshop: Workshop) -> None:
    async with desk(workshop, ScriptedEngine(["too slow"], delay=60)) as at:
        await at.put(question(seconds=0.3))
        record = await at.answered()
    assert record.error
    assert record.error.code == "model.timeout"


@pytest.mark.parametrize("code", ["model.overflow", "model.engine", "model.cut"])
async def test_a_failure_of_the_engine_is_recorded_with_its_code_and_heard(workshop: Workshop, code: str) -> None:
    async with desk(workshop, ScriptedEngine([ModelFailed(code, "It can't.", "Do this.")])) as at:
        await at.put(question())
        record = await at.answered()

        async def heard() -> bool:
            return bool(at.hints)

        await eventually(heard)
    assert record.error == ErrorInfo(code, "It can't.", "Do this.")
    assert bytes(record.result) == b""
    assert await workshop.entries("dead", INFERENCE) == []


async def test_an_answer_that_could_not_be_used_costs_what_it_took(workshop: Workshop) -> None:
    cost = Usage("scripted", 1, tokens_in=100, tokens_out=400)
    async with desk(workshop, ScriptedEngine([ModelFailed("model.cut", "Cut.", usage=cost)])) as at:
        await at.put(question())
        usage = (await at.answered()).usage
    assert (usage.model, usage.calls, usage.tokens_in, usage.tokens_out) == ("scripted", 1, 100, 400)


async def test_an_engine_that_could_not_start_is_recorded_and_tried_again_by_itself(workshop: Workshop) -> None:
    missing = CouldNotStart("model.missing", "There is no model.", "Run `victoria doctor`.")
    async with desk(workshop, missing, ScriptedEngine(lambda _request: "here now")) as at:
        await at.put(question("event-1/a"))
        assert (await at.answered("event-1/a")).error == missing.info
        board = Board(workshop.client, workshop.keys)

        async def is_offered(state: str) -> bool:
            return [offer.state for offer in await board.offers(fresh=True)] == [state]

        await eventually(lambda: is_offered("open"))
        await eventually(lambda: is_offered("closed"))
        await at.put(question("event-1/b"))
        assert msgspec.json.decode((await at.answered("event-1/b")).result) == "here now"


async def test_an_engine_that_breaks_unexpectedly_is_a_typed_failure(workshop: Workshop) -> None:
    async with desk(workshop, ScriptedEngine([RuntimeError("a bug"), "well again"])) as at:
        await at.put(question("event-1/a"))
        record = await at.answered("event-1/a")
        assert record.error
        assert (record.error.code, "a bug" in record.error.message) == ("model.engine", True)
        await at.put(question("event-1/b"))
        assert msgspec.json.decode((await at.answered("event-1/b")).result) == "well again"


async def test_when_a_run_ends_its_questions_are_given_up_and_their_slots_are_free(workshop: Workshop) -> None:
    engine = ScriptedEngine(lambda request: request.messages[1].content, slots=1, delay=0.0)
    engine.delay = 60.0
    async with desk(workshop, engine, slots=1) as at:
        key = workshop.keys.run("0", "run-1")
        await workshop.client.hset(key, "submitted", "x")
        await at.put(question("event-1/a"))

        async def begun() -> bool:
            return bool(engine.requests)

        await eventually(begun)
        engine.delay = 0.0
        await workshop.client.pexpire(key, 60_000)
        error = (await at.answered("event-1/a")).error
        assert error
        assert error.code == "model.cancelled"
        journal = await workshop.client.pttl(workshop.keys.journal("run-1"))
        assert 0 < journal <= 60_000, "and its journal goes with it"
        await workshop.client.persist(key)
        await at.put(question("event-1/b"))
        assert not (await at.answered("event-1/b")).error


async def test_interactive_questions_go_before_background_ones(workshop: Workshop) -> None:
    engine = ScriptedEngine(lambda request: request.messages[1].content, slots=1, delay=0.05)
    async with desk(workshop, engine, slots=1) as at:
        behind = [question(f"event-{number}/later", priority="background") for number in range(6)]
        for event in behind:
            event = replace(event, messages=(MESSAGES[0], ChatMessage("user", "later")))
            await at.put_background(event)
        await at.put(*(question(f"event-{number}/now") for number in range(6)))

        async def all_done() -> bool:
            return len(await at.journal.everything("run-1")) == 12

        await eventually(all_done)
    order = [request.messages[1].content for request in engine.requests]
    assert order[-4:] == ["later"] * 4, "at most one was under way, and one next in line, when the others came"


async def test_who_gave_up_waiting_is_not_answered_over(workshop: Workshop) -> None:
    given_up = Record("ask", "hash-1", datetime.now(UTC), error=ErrorInfo("model.timeout", "No model answered."))
    async with desk(workshop, ScriptedEngine(["late"], delay=0.3)) as at:
        await at.put(question())
        await at.journal.write("run-1", "event-1/answer", given_up)
        assert await at.answered() == given_up


class Counting(ScriptedEngine):
    """Counts what it works on at once."""

    now = most = 0

    async def generate(self, request: Generation, on_text: OnText | None = None) -> Answer:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await super().generate(request, on_text)
        finally:
            self.now -= 1


async def test_an_engine_is_given_as_many_questions_at_once_as_it_has_slots(workshop: Workshop) -> None:
    engine = Counting(lambda _request: "x", slots=2, delay=0.1)
    async with desk(workshop, engine, slots=2) as at:
        await at.put(*(question(f"event-{number}/answer") for number in range(6)))
        await at.settled()
        assert len(await at.journal.everything("run-1")) == 6
    assert engine.most == 2


class Verdict(msgspec.Struct):
    """What the stage below wants to know."""

    good: bool


async def test_a_stage_that_asks_gets_a_typed_answer_and_an_unusable_one_is_repaired_once(workshop: Workshop) -> None:
    engine = ScriptedEngine(["not json", '{"good": true}'])

    async def handle(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        verdict = await ctx.ask("judge", Question("Judge.", event.goal, Verdict))
        return [understood(f"{verdict.good}, {ctx.usage().calls} calls, {ctx.trust}")]

    local = consumer(workshop, engine)
    router = OfferRouter(Board(workshop.client, workshop.keys), Wish(), ())
    async with workshop.working(intake_stage(handle), *local.stages(), router=router, companions=[local.attend]):
        await workshop.publish("a goal")

        async def there() -> bool:
            return bool(await workshop.entries("results"))

        await eventually(there)
    assert await workshop.bodies("results") == [understood("True, 2 calls, model")]
    assert "not json" in engine.requests[1].messages[1].content
    assert engine.requests[0].messages[0] == engine.requests[1].messages[0]
