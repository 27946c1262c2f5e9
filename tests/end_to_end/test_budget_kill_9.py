"""kill -9 of every stage while steps side by side spend a run's tokens: the run still keeps to its budget."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from consumers.steps.answering import ANSWER
from schemas.events import PlanProposed
from schemas.plan import Limits, Plan, Step
from streams.budget import estimated
from tests.end_to_end.conftest import Processes
from tests.end_to_end.test_kill_9 import all_ended, ends
from tests.llm.fake_ollama import Body, FakeOllama, Reply, fake_ollama
from tests.workshop import eventually

STAGES = ("step-execute", "aggregate", "clock", "infer.ollama")
RUN, STEPS, LONGEST = "run-0", 5, 300
TOKENS_IN, TOKENS_OUT = 120, 280


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with fake_ollama() as fake:
        yield fake


def share() -> int:
    """What is reserved for one step's question."""
    question = ANSWER.question(str, max_tokens=LONGEST, context="", goal="Do 1.", inputs="")
    return estimated(question.messages, LONGEST)


@pytest.mark.heavy
async def test_no_more_is_spent_than_one_answer_over_the_budget_whoever_dies(
    processes: Processes, ollama: FakeOllama
) -> None:
    workshop, free = processes.workshop, asyncio.Event()

    def of_a_step(chat: Body) -> bool:
        """And not read ahead."""
        return "<goal>Do " in chat["messages"][-1]["content"]

    async def slowly(reply: Reply, body: Body) -> None:
        if of_a_step(body):
            await free.wait()
        await reply.begin()
        await reply.say("A long answer.")
        await reply.done(prompt_eval_count=TOKENS_IN, eval_count=TOKENS_OUT)

    async def two_are_asked() -> bool:
        return sum(map(of_a_step, ollama.chats)) == 2

    ollama.scripts["/api/chat"] = slowly
    processes.environ |= {"VICTORIA_MODEL": "ollama", "OLLAMA_HOSTS": ollama.url, "VICTORIA_OLLAMA_SLOTS": str(STEPS)}
    for stage in STAGES:
        processes.start(stage)
    await processes.ready(*STAGES)
    plan = Plan("given", tuple(Step(str(n), f"step {n}", f"Do {n}.", how="answer") for n in range(1, STEPS + 1)))
    limits = Limits(tokens=int(2.5 * share()))
    await workshop.publisher.publish([(RUN, PlanProposed(restated="Do all.", plan=plan))], "aggregate", limits=limits)
    await eventually(two_are_asked, within=30)
    for process in processes.running.values():
        process.kill()
        process.wait()
    processes.running.clear()

    free.set()
    for stage in STAGES:
        processes.start(stage)
    await eventually(lambda: all_ended(workshop, 1), within=60)

    ((end,),) = (await ends(workshop)).values()
    assert end.error
    assert (end.status, end.error.code) == ("completed", "budget.tokens")
    assert f"{limits.tokens:,} tokens" in end.error.message
    assert "A long answer." in end.output
    cost = end.metadata.tokens_in + end.metadata.tokens_out
    assert end.metadata.calls * (TOKENS_IN + TOKENS_OUT) == cost
    assert 0 < cost <= limits.tokens + TOKENS_IN + TOKENS_OUT
    kept: Any = await workshop.client.hgetall(workshop.keys.budget(RUN))
    found = {name.decode(): int(value) for name, value in kept.items() if value.isdigit()}
    assert found == {"used": cost, "reserved": 0, "calls": end.metadata.calls}
    assert set(processes.stop_all().values()) == {0}
