"""The list of questions is a hint; what is shown is what still waits, however much does no longer."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from consumers.questions import MOST, Questions
from consumers.runs.state import STAGE, Asking, RunState, StepState
from schemas.errors import InvalidInput
from schemas.events import RunFinished
from schemas.plan import Plan
from tests.consumers.runs import Run, proposed, step
from tests.workshop import Workshop

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def questions(workshop: Workshop) -> Questions:
    return Questions(workshop.client, workshop.keys)


async def keep(workshop: Workshop, run: str, state: RunState) -> None:
    key = workshop.keys.run(workshop.keys.of_run(run), run)
    await workshop.client.hset(key, STAGE, msgspec.json.encode(state))


def waits(question_id: str, **more: Any) -> RunState:
    asking = Asking(question_id, "Which?", asked_at=AT)
    steps = {"1": StepState("waiting", asking=asking)}
    return RunState(goal="g", plan=Plan("react", (step("1"),)), steps=steps, asked=(question_id,), **more)


def finished() -> RunFinished:
    run = Run()
    run(proposed())
    return run.end


async def shown(questions: Questions) -> list[str]:
    return [each.asking.id async for each in questions.waiting()]


async def test_behind_many_that_no_longer_wait_one_that_does_is_found_and_they_are_forgotten(
    workshop: Workshop, questions: Questions
) -> None:
    key = workshop.keys.questions("0")
    await workshop.client.zadd(key, {f"gone-{number}.q": number for number in range(2 * MOST + 500)})
    await keep(workshop, "run", waits("run.q"))
    await questions.listed(Asking("run.q", "Which?", asked_at=AT), "key")
    assert await shown(questions) == ["run.q"]
    assert await workshop.client.zcard(key) == 1


async def test_one_that_is_only_about_to_wait_stays_listed_and_is_not_shown_yet(
    workshop: Workshop, questions: Questions
) -> None:
    await keep(workshop, "run", RunState(plan=Plan("react", (step("1"),)), steps={"1": StepState("running")}))
    await questions.listed(Asking("run.q", "Which?", asked_at=AT), "key")
    assert await shown(questions) == []
    await keep(workshop, "run", waits("run.q"))
    assert await shown(questions) == ["run.q"]


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (None, "question.unknown"),
        (RunState(), "question.unknown"),
        (RunState(asked=("run.q",)), "question.closed"),
        (RunState(asked=("run.q",), finished=finished()), "question.closed"),
        (RunState(finished=finished()), "question.unknown"),
    ],
)
async def test_what_can_not_be_answered_says_why(
    workshop: Workshop, questions: Questions, state: RunState | None, code: str
) -> None:
    if state:
        await keep(workshop, "run", state)
    with pytest.raises(InvalidInput) as refused:
        await questions.find("run.q")
    assert refused.value.code == code
