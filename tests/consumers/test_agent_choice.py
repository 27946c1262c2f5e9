"""A step goes to the agent that is best at what its words need, and not busy; what an expert was chosen for stays."""

import pytest
from msgspec.structs import replace

from consumers.agents.choice import best_agent, delegated
from consumers.strategies.strategy import Colleague
from schemas.plan import How, Plan, Step
from tests.consumers.colleagues import STAFF


def busy(**loads: float) -> list[Colleague]:
    return [replace(each, load=loads.get(each.name, 0)) for each in STAFF]


@pytest.mark.parametrize(
    ("needed", "agent"),
    [
        (["execution"], "veronica"),
        (["file_operations", "research"], "veronica"),
        (["system_admin"], "veronica"),
        (["planning"], "victoria"),
        (["reasoning", "coordination"], "victoria"),
        (["code_analysis"], "victoria"),
        (["testing"], ""),
        ([], ""),
    ],
)
def test_each_capability_has_its_agent(needed: list[str], agent: str) -> None:
    assert best_agent(needed, STAFF) == agent


def test_load_takes_from_the_score() -> None:
    both = ["planning", "execution"]
    assert best_agent(both, busy(veronica=0.4)) == "victoria"
    assert best_agent(both, busy(victoria=0.4)) == "veronica"
    assert best_agent(["execution"], busy(veronica=1)) == ""
    assert best_agent(["execution"], busy(veronica=7)) == ""


def step(goal: str = "Run the script and delete the files", how: How = "react", expert: str = "") -> Step:
    return Step("1", "t", goal, how=how, expert=expert)


def agent_of(step: Step, *reachable: str) -> str:
    return delegated(Plan("react", (step,)), STAFF, reachable).steps[0].agent


def test_a_step_is_delegated_to_the_best_agent_where_that_can_be_reached() -> None:
    for expert in ("", "veronica", "victoria", "nobody"):
        assert agent_of(step(expert=expert), "veronica") == "veronica"
    assert agent_of(step(how="answer"), "veronica") == "veronica"
    assert agent_of(step(), "victoria") == agent_of(step()) == ""
    assert agent_of(step("Why is the sky blue?"), "veronica") == ""
    assert agent_of(step("Zzz"), "veronica") == ""


def test_a_specialists_step_a_sure_tool_call_and_thoughts_stay_here() -> None:
    assert agent_of(step(expert="devops"), "veronica") == ""
    for how in ("tool", "think", "vote", "choose"):
        assert agent_of(step(how=how), "veronica") == ""
    assert agent_of(replace(step(how="answer"), inner=True), "veronica") == ""
