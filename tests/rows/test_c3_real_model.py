"""C3. Every strategy on the real embedded model, from a goal in one of three languages to its answer."""

import pytest

from consumers.runs.state import OPEN, UNLOCKS
from consumers.strategies.registry import BUILT_IN
from schemas.events import GoalUnderstood, PlanProposed
from tests.rows.conftest import Build

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("model_file")]

WITHIN = 600.0
"""Seconds on a machine that does much else; alone each takes less than a minute."""
GOALS = {
    "simple": "Why is the sky blue?",
    "react": "怎样学好英语？",
    "extended_thinking": "Почему море солёное?",
    "swarm": "What makes a website fast?",
    "consensus": "What is the capital of France?",
    "tree_of_thoughts": "Придумай название для кофейни",
    "hierarchical": "How can we make our website faster and test it?",
    "department_heads": "怎样测试登录接口？",
    "parallel": "Compare tea and coffee, then recommend one",
}


def test_there_is_a_goal_for_every_strategy() -> None:
    assert GOALS.keys() == BUILT_IN.by_name.keys()


@pytest.mark.parametrize("strategy", GOALS)
async def test_a_strategy_answers_on_the_real_model_and_every_step_says_who_did_it(house: Build, strategy: str) -> None:
    async with house(model="local", max_iterations="3", question_timeout="1") as home:
        run = await home.submit(GOALS[strategy], strategy=strategy)
        end = await home.end(run, WITHIN)
        plan, understood = (await home.said(run, PlanProposed)).plan, await home.said(run, GoalUnderstood)
    assert (end.method, plan.strategy) == (strategy, strategy)
    no_answer = strategy == "react" and end.error is not None and end.error.code == "step.no_answer"
    assert end.status == "completed" or no_answer, "so small a model may find nothing with tools, but says so"
    assert end.output.strip()
    assert end.metadata.model.startswith("SmolLM2")
    assert end.metadata.tokens_out > 10
    assert len(end.metadata.steps) >= len(plan.steps), "further plans add to the first one's steps"
    for step in end.metadata.steps:
        assert step.status not in OPEN
        assert step.expert
        assert step.error or step.status in (*UNLOCKS, "skipped")
    alone = strategy in ("simple", "react") or (strategy == "department_heads" and understood.category == "simple")
    assert alone or len(plan.steps) > 1 or plan.notes, "where it had to make do with less, it says so"
    if strategy == "consensus":
        assert any("tokens" in note for note in end.metadata.notes)
