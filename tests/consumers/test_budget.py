"""What a run asks of models keeps to its limits, whoever asks side by side and whoever dies meanwhile."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import anyio
import pytest

from consumers.inference import Desk, Inference
from consumers.offers import Board, OfferRouter
from llm.engine import Generation
from llm.models import Wish
from llm.pool import Pool
from llm.scripted import Reply, ScriptedEngine
from llm.sources import Ready
from schemas.errors import EffectFailed
from schemas.events import Event, GoalSubmitted, StepFinished, StepReady
from schemas.inference import ChatMessage, Question
from schemas.plan import Limits, Spent, Step
from streams.asking import Asker
from streams.budget import Budget, estimated
from streams.journal import Journal, Record
from streams.stage import AnyStage, Stage
from streams.worker import Terms
from tests.workshop import QUICK, TERMS, Workshop, eventually, intake_stage

RUN = "run-0"
ANSWER = 100
"""Tokens of each answer; the scripted engine counts words."""
STEPS = 5


def question(step: str) -> Question[str]:
    return Question("Answer in full.", f"<goal>What is meant by step {step}?</goal>", str, max_tokens=ANSWER)


SHARE = estimated(question("1").messages, ANSWER)


async def fan_out(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
    steps = [Step(str(number), event.goal, event.goal) for number in range(STEPS)]
    return [StepReady(step=step, goal=event.goal) for step in steps]


async def answer(event: StepReady, ctx: Any) -> Sequence[Event]:
    status, error, output = "ok", None, ""
    try:
        output = await ctx.ask("answer", question(event.step.id))
    except EffectFailed as problem:
        status, error = "failed", problem.info
    spent = Spent("step-execute", ctx.now(), ctx.usage())
    return [StepFinished(step_id=event.step.id, status=status, output=output, error=error, spent=spent)]


STAGES: tuple[AnyStage, ...] = (
    intake_stage(fan_out, emits=(StepReady,)),
    Stage("step-execute", (StepReady,), (StepFinished,), answer, "step-execute", QUICK),
)


def wordy(_request: Generation) -> Reply:
    return "word " * ANSWER


class Run:
    """A run of steps side by side, each with a question."""

    def __init__(self, workshop: Workshop, engine: ScriptedEngine) -> None:
        client, keys = workshop.client, workshop.keys
        self.workshop, self.engine = workshop, engine
        board = Board(client, keys)
        self.router = OfferRouter(board, Wish(), ())
        desk = Desk(client, keys, Journal(client, keys), board, hold=5.0)
        self.local = Inference("local", engine.slots, lambda: Pool([Ready("local", engine)]), desk)

    @asynccontextmanager
    async def models(self) -> AsyncGenerator[None]:
        """Inside, questions are answered."""
        async with self.workshop.working(*self.local.stages(), companions=[self.local.attend]):
            yield

    @asynccontextmanager
    async def steps(self, terms: Terms = TERMS) -> AsyncGenerator[None]:
        """Inside, steps are carried out."""
        async with self.workshop.working(*STAGES, router=self.router, terms=terms):
            yield

    async def submit(self, limits: Limits) -> None:
        await self.workshop.publisher.publish([(RUN, GoalSubmitted(goal="x"))], "intake", limits=limits)

    async def ended(self) -> list[StepFinished]:
        """Wait for all steps' ends."""

        async def all_ended() -> bool:
            return len(await self.workshop.entries("results")) >= STEPS

        await eventually(all_ended)
        assert await self.workshop.entries("dead") == []
        return [body for body in await self.workshop.bodies("results") if isinstance(body, StepFinished)]

    async def used(self) -> int:
        """Tokens that all recorded answers cost."""
        usages = [record.usage for record in await self.records()]
        return sum(usage.tokens_in + usage.tokens_out for usage in usages)

    async def records(self) -> list[Record]:
        """What the journal has."""
        return list((await Journal(self.workshop.client, self.workshop.keys).everything(RUN)).values())

    async def budget(self) -> dict[str, int]:
        found: Any = await self.workshop.client.hgetall(self.workshop.keys.budget(RUN))
        return {name.decode(): int(value) for name, value in found.items() if value.isdigit()}


def codes(ended: Sequence[StepFinished]) -> list[str]:
    return sorted(each.error.code if each.error else each.status for each in ended)


@pytest.fixture
def run(workshop: Workshop) -> Run:
    return Run(workshop, ScriptedEngine(wordy, delay=0.1, slots=STEPS))


async def test_steps_side_by_side_do_not_spend_the_same_tokens(run: Run) -> None:
    limit = 2 * SHARE + SHARE // 2
    async with run.models(), run.steps():
        await run.submit(Limits(tokens=limit))
        ended = await run.ended()
    assert codes(ended) == ["budget.tokens"] * 3 + ["ok"] * 2
    refused = next(each.error for each in ended if each.error)
    assert f"{limit:,} tokens" in refused.message
    assert "--tokens" in refused.hint
    assert len(run.engine.requests) == 2
    assert await run.used() <= limit
    assert await run.budget() == {"used": await run.used(), "reserved": 0, "calls": 2}


async def test_what_answers_did_not_use_is_there_for_the_next_ones(run: Run) -> None:
    run.engine = ScriptedEngine(lambda _request: "short", slots=1)
    run.local.pool = Pool([Ready("local", run.engine)])
    async with run.models(), run.steps():
        await run.submit(Limits(tokens=STEPS * SHARE))
        assert codes(await run.ended()) == ["ok"] * STEPS
    left = STEPS * SHARE - await run.used()
    assert left > (STEPS - 1) * ANSWER
    assert (await run.budget())["reserved"] == 0


async def test_a_run_calls_models_no_more_often_than_it_may(run: Run) -> None:
    async with run.models(), run.steps():
        await run.submit(Limits(calls=3))
        assert codes(await run.ended()) == ["budget.calls"] * 2 + ["ok"] * 3
    assert len(run.engine.requests) == 3


async def test_a_question_that_is_answered_badly_needs_a_share_for_each_try(workshop: Workshop) -> None:
    run = Run(workshop, ScriptedEngine(lambda _request: " ", slots=1))
    async with run.models(), run.steps():
        await run.submit(Limits(calls=STEPS + 1))
        ended = await run.ended()
    assert len(run.engine.requests) == STEPS + 1
    assert "budget.calls" in codes(ended)


CRASHES = {
    "before its question is put": (Asker, "_put"),
    "while the answer is under way": None,
    "between the answer and the books": (Budget, "spend"),
}


@pytest.mark.parametrize("crash", CRASHES)
async def test_nothing_is_reserved_or_counted_twice_after_a_crash(
    run: Run, crash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 2 * SHARE + SHARE // 2
    stuck: list[object] = []

    async def hang(*_args: object) -> None:
        stuck.append(_args)
        await anyio.sleep(60)

    async def two_reserved() -> bool:
        match CRASHES[crash]:
            case None:
                return len(run.engine.requests) == 2
            case _, "spend":
                return len(stuck) == STEPS and len(await run.records()) == STEPS
            case _:
                return len(stuck) == 2

    async with run.models():
        with monkeypatch.context() as broken:
            if where := CRASHES[crash]:
                broken.setattr(*where, hang)
            async with run.steps(Terms(lease=TERMS.lease, grace=0.0)):
                await run.submit(Limits(tokens=limit))
                await eventually(two_reserved)
                before = await run.budget()
        assert before["reserved"] == 2 * SHARE
        assert before["calls"] == 2
        async with run.steps():
            ended = await run.ended()
    assert codes(ended) == ["budget.tokens"] * 3 + ["ok"] * 2
    assert await run.used() <= limit
    assert await run.budget() == {"used": await run.used(), "reserved": 0, "calls": 2}


async def test_a_question_waits_no_longer_than_its_run_may_last(workshop: Workshop) -> None:
    run = Run(workshop, ScriptedEngine(wordy, delay=60.0, slots=STEPS))
    async with run.models(), run.steps():
        began = monotonic()
        await run.submit(Limits(ends=datetime.now(UTC) + timedelta(seconds=0.7)))
        assert codes(await run.ended()) == ["budget.deadline"] * STEPS
    assert 0.6 < monotonic() - began < 10.0
    assert all(request.timeout < 0.7 for request in run.engine.requests)


async def test_after_the_deadline_nothing_is_asked_though_no_model_is_there(run: Run) -> None:
    async with run.steps():
        await run.submit(Limits(ends=datetime.now(UTC) - timedelta(seconds=1)))
        assert codes(await run.ended()) == ["budget.deadline"] * STEPS
    assert await run.workshop.client.exists(run.workshop.keys.budget(RUN)) == 0


async def test_a_refusal_is_recorded_like_an_answer(run: Run) -> None:
    async with run.models(), run.steps():
        await run.submit(Limits(tokens=SHARE - 1))
        assert codes(await run.ended()) == ["budget.tokens"] * STEPS
    errors = [record.error for record in await run.records()]
    assert [error.code for error in errors if error] == ["budget.tokens"] * STEPS
    assert run.engine.requests == []


@pytest.mark.parametrize("text", ["𠀀𪚥" * 100, "🚀" * 200, "3.14159,-+*" * 50, "Слово и дело. " * 30])
def test_no_text_can_take_more_tokens_than_are_reserved_for_it(text: str) -> None:
    assert estimated((ChatMessage("user", text),), 10) >= len(text) + 10
    assert estimated((ChatMessage("user", "plain words only"),), 10) < 10 + 16
