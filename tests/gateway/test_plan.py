"""What a run's plan is can be looked at, while it goes on and afterwards; strategies are listed, and can be wanted."""

from pathlib import Path

from consumers.runs.view import PlannedStep, PlanView
from consumers.strategies.registry import BUILT_IN
from gateway.drawing import mermaid, tree
from gateway.screen import Console
from schemas.errors import ErrorInfo
from schemas.plan import StepStatus
from tests.gateway.conftest import Call

GOAL = "Fix our api backend and write an seo blog post about it"
OWN = '''
"""A strategy of the user's own."""

from consumers.strategies.strategy import Ask, Brief, Strategy
from schemas.plan import Plan, Step


class Solo(Strategy):
    """One step."""

    name = "solo"
    description = "one step"

    async def shape(self, brief: Brief, ask: Ask) -> Plan:
        """It."""
        return Plan(self.name, (Step("a", "alone", brief.goal, how="answer"),))
'''


def test_all_strategies_are_shown_with_what_they_are_chosen_for(call: Call) -> None:
    done = call("strategies")
    for name, strategy in BUILT_IN.by_name.items():
        assert f"\n{name} " in f"\n{done.out}"
        assert ", ".join(strategy.suits) in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    rows = {row["name"]: row for row in call("strategies", "--json").json()}
    assert rows.keys() == BUILT_IN.by_name.keys()
    assert (rows["parallel"]["suits"], rows["parallel"]["direct"]) == (["complex", "general"], False)
    assert rows["simple"]["source"].endswith("simple.py")


def test_a_strategy_in_the_users_folder_is_listed_wanted_and_drawn(call: Call, tmp_path: Path) -> None:
    (tmp_path / "solo.py").write_text(OWN)
    at = {"VICTORIA_STRATEGIES_DIR": str(tmp_path)}
    assert "solo" in [row["name"] for row in call("strategies", "--json", **at).json()]
    run = call("run", "--strategy", "solo", "--json", GOAL, **at).json()["run_id"]
    found = call("plan", run, "--json", **at).json()
    assert (found["strategy"], [(step["id"], step["title"]) for step in found["steps"]]) == ("solo", [("1", "alone")])
    (tmp_path / "broken.py").write_text("\nraise ValueError('no')")
    done = call("strategies", **at)
    assert done.code == 3
    assert f"{tmp_path / 'broken.py'}, line 2: ValueError: no" in done.err


def test_a_strategy_or_an_expert_that_is_not_there_is_refused_with_the_nearest(call: Call) -> None:
    for command in ("run", "publish"):
        done = call(command, "--strategy", "consensu", "Hi")
        assert (done.code, "[strategy.unknown]" in done.err, "Did you mean consensus?" in done.err) == (2, True, True)
        done = call(command, "--expert", "bakend", "Hi")
        assert (done.code, "[expert.unknown]" in done.err, "Did you mean backend?" in done.err) == (2, True, True)


def test_the_plan_of_a_run_is_drawn_as_a_tree_a_flowchart_and_data(call: Call) -> None:
    run = call("run", "--strategy", "hierarchical", "--json", GOAL).json()["run_id"]
    done = call("plan", run)
    head, facts, *steps = done.out.splitlines()
    assert (head, facts) == (GOAL, "hierarchical · completed")
    assert steps[0].startswith("└── ◐ 1 brief  victoria · think")
    assert any("after any of" in line and "answer" in line for line in steps)
    chart = call("plan", run, "--mermaid").out
    assert chart.startswith("flowchart TD\n")
    assert "s1[" in chart
    assert " -.-> " in chart
    data = call("plan", run, "--json").json()
    assert (data["run_id"], data["strategy"], data["status"], data["goal"]) == (run, "hierarchical", "completed", GOAL)
    assert len(data["steps"]) == 10
    assert {step["status"] for step in data["steps"]} == {"partial"}
    assert [step["id"] for step in data["steps"]] == [str(number) for number in range(1, 11)]
    assert data["steps"][-1]["expert"] == "victoria"


def test_an_expert_that_is_wanted_does_it(call: Call) -> None:
    run = call("run", "--expert", "qa", "--json", "What is a queue?").json()["run_id"]
    assert {step["expert"] for step in call("plan", run, "--json").json()["steps"]} == {"qa"}


def test_a_run_without_a_plan_says_so_and_an_unknown_one_is_refused(call: Call) -> None:
    run = call("publish", GOAL).out.strip()
    assert "no plan yet · queued" in call("plan", run).out
    assert call("plan", run, "--json").json()["steps"] == []
    done = call("plan", "nope")
    assert (done.code, "[run.unknown]" in done.err) == (2, True)


# Drawings, whatever is in a plan


def step(id_: str, *needs: str, status: StepStatus = "ok", title: str = "", any_input: bool = False) -> PlannedStep:
    error = ErrorInfo("x", "It broke.") if status == "failed" else None
    return PlannedStep(id_, title or f"title {id_}", "answer", status, "qa", "", needs, any_input, False, 1.5, error)


def view(*steps: PlannedStep) -> PlanView:
    return PlanView("run-1", "running", "Do it.", "parallel", True, 3, 2, (), steps)


def drawn(plan: PlanView) -> list[str]:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(tree(plan))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_step_hangs_under_the_last_one_it_needs_and_names_all() -> None:
    plan = view(step("1"), step("2", status="failed"), step("3", "1", "2", status="blocked"), step("4", "1"), step("5"))
    assert drawn(plan) == [
        "Do it.",
        "parallel · running · 3 votes decide · answers become one · changed 2 times",
        "├── ✓ 1 title 1  qa · answer · 1.50 s",
        "│   └── ✓ 4 title 4  qa · answer · 1.50 s",
        "├── ✗ 2 title 2  qa · answer · 1.50 s",
        "│   It broke.",
        "│   └── ✗ 3 title 3  qa · answer · 1.50 s · after all of 1, 2",
        "└── ✓ 5 title 5  qa · answer · 1.50 s",
    ]


def test_a_flowchart_has_a_node_for_each_step_and_dotted_arrows_where_one_is_enough() -> None:
    chart = mermaid(view(step("1"), step("x y", "1"), step("3", "1", "x y", any_input=True))).splitlines()
    assert chart[:8] == [
        "flowchart TD",
        '    s1["1. title 1<br>qa"]:::ok',
        '    s2["x y. title x y<br>qa"]:::ok',
        '    s3["3. title 3<br>qa"]:::ok',
        "    s1 --> s2",
        "    s1 -.-> s3",
        "    s2 -.-> s3",
        "    classDef ok fill:#d4edda,color:#000",
    ]


def test_what_a_title_says_is_text_in_every_drawing() -> None:
    evil = '"]; click s1 "javascript:x" %% <b>`${x}`\x1b[2J\nend\nsubgraph y'
    plan = view(step("1", title=evil))
    label = mermaid(plan).splitlines()[1]
    assert label.startswith('    s1["1. #34;#93;#59; click s1 #34;javascript:x#34;')
    assert label.count('"') == 2
    assert not set("<>`$\x1b%") & set(label.replace("<br>", ""))
    assert "\x1b" not in "".join(drawn(plan))
