"""Strategies are found by name, and chosen by what is wanted, by category and by kind; a new one is one new file."""

from itertools import product
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args

import pytest

from consumers import strategies as package
from consumers.experts.expert import STRATEGIES, read_expert
from consumers.plan import stage
from consumers.strategies.registry import BUILT_IN, Strategies, built_in, in_folder
from consumers.strategies.strategy import Ask, Brief, Strategy
from consumers.words.rules import recognise
from schemas.errors import CouldNotStart, InvalidInput
from schemas.events import GoalUnderstood, PlanProposed
from schemas.inference import Question
from schemas.plan import Category, Plan, Step, TaskKind, ToolCall
from streams.testing import ScriptedContext
from tests.consumers.test_experts import BEEKEEPER

MISSION = {
    "simple", "react", "extended_thinking", "swarm", "consensus", "tree_of_thoughts", "hierarchical",
    "department_heads", "parallel",
}  # fmt: skip


def test_every_strategy_of_the_mission_is_there_in_a_file_of_its_name() -> None:
    assert set(BUILT_IN.by_name) == MISSION == set(STRATEGIES)
    for name, strategy in BUILT_IN.by_name.items():
        assert (strategy.name, type(strategy).__module__) == (name, f"{package.__name__}.{name}")
        assert 5 < len(strategy.description) <= 100


@pytest.mark.parametrize(
    ("kind", "category", "wanted", "chosen"),
    [
        ("fast", "simple", "", "simple"),
        ("general", "simple", "", "simple"),
        ("coding", "simple", "", "simple"),
        ("reasoning", "simple", "", "extended_thinking"),
        ("complex", "simple", "", "parallel"),
        ("coding", "investigate", "", "react"),
        ("coding", "multi_step", "", "react"),
        ("execution", "multi_step", "", "react"),
        ("reasoning", "multi_step", "", "extended_thinking"),
        ("planning", "multi_step", "", "department_heads"),
        ("general", "multi_step", "", "parallel"),
        ("complex", "multi_step", "", "parallel"),
        ("fast", "multi_step", "", "simple"),
        ("fast", "simple", "consensus", "consensus"),
        ("fast", "simple", "no_such", "simple"),
    ],
)
def test_a_strategy_is_chosen_by_who_wants_it_then_by_category_then_by_kind(
    kind: TaskKind, category: Category, wanted: str, chosen: str
) -> None:
    assert BUILT_IN.choose(kind, category, wanted).name == chosen


def test_every_goal_gets_a_strategy_by_its_kind_or_by_name_every_one() -> None:
    by_kind = {BUILT_IN.choose(*goal).name for goal in product(get_args(TaskKind), get_args(Category))}
    assert by_kind == {"simple", "react", "extended_thinking", "department_heads", "parallel"}
    wanted = {BUILT_IN.choose("fast", "simple", name).name for name in MISSION}
    assert by_kind | wanted == MISSION


@pytest.mark.parametrize(
    "goal", ["What is a Redis stream?", "Кто написал «Войну и мир»?", "中国的首都是什么？", "hi there!"]
)
async def test_an_ordinary_question_is_one_answer_of_a_model(goal: str) -> None:
    found = recognise(goal)
    plan = await BUILT_IN.choose(found.kind, found.category).shape(Brief(goal, found.kind, found.category), nobody)
    assert [step.how for step in plan.steps] == ["answer"]


async def nobody(name: str, question: Question[Any]) -> Any:
    raise AssertionError(f"{name!r} is asked")


# A new strategy is one new file

TWICE = '''\
    """`twice`: ask again."""

    from typing import ClassVar

    from consumers.strategies.strategy import Ask, Brief, Strategy
    from schemas.plan import Plan, Step


    class Twice(Strategy):
        """The same twice."""

        name: ClassVar[str] = "double_check"
        description: ClassVar[str] = "two answers"
        suits: ClassVar[tuple[str, ...]] = ("general",)

        async def shape(self, brief: Brief, ask: Ask) -> Plan:
            """Two steps."""
            return Plan(self.name, (Step("a", "once", brief.goal), Step("b", "twice", brief.goal, depends_on=("a",))))
'''


@pytest.mark.parametrize("where", ["the user's folder", "the package"])
async def test_a_new_strategy_takes_one_new_file_and_plans_are_made_by_it(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "twice.py").write_text(dedent(TWICE))
    if where == "the package":
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        strategies = Strategies.of(built_in())
    else:
        strategies = Strategies.of([*built_in(), *in_folder(tmp_path)])
    for wanted in ("", "double_check"):
        event = GoalUnderstood(restated="Do it.", category="multi_step", kind="general", strategy=wanted)
        proposed, _ = await stage(strategies=strategies).handle(event, ScriptedContext())
        assert isinstance(proposed, PlanProposed)
        assert proposed.plan.strategy == "double_check"
        assert [(s.id, s.title, s.depends_on) for s in proposed.plan.steps] == [
            ("1", "once", ()),
            ("2", "twice", ("1",)),
        ]
    path = tmp_path / "beekeeper.yaml"
    path.write_text(BEEKEEPER + "strategy: double_check\n", encoding="utf-8")
    assert read_expert(path, strategies.by_name).strategy == "double_check"


def test_a_folder_that_is_not_there_has_no_strategies(tmp_path: Path) -> None:
    assert list(in_folder(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nonsense(", "line 1: SyntaxError"),
        ("\n\nraise ValueError('no')", "line 3: ValueError: no"),
        (
            dedent(TWICE).replace('"double_check"', '"Double check"'),
            "line 9: Twice is no strategy: its name is",
        ),
        (dedent(TWICE).replace("    description", "    other"), "line 9: Twice is no strategy: it has no description"),
        (dedent(TWICE).replace('"general"', '"hard"'), "line 9: Twice is no strategy: it suits what is none of fast,"),
        (dedent(TWICE).replace('"double_check"', '"react"'), "Two strategies are called react: in "),
    ],
)
def test_a_broken_strategy_is_named_with_file_and_line(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text(text)
    with pytest.raises(CouldNotStart) as caught:
        Strategies.of([*built_in(), *in_folder(tmp_path)])
    assert caught.value.code == "strategy.broken"
    assert problem in caught.value.message
    assert str(tmp_path / "twice.py") in caught.value.message


NO_PLANS: dict[str, tuple[Any, str]] = {
    "a way that there is not": (Plan("", (Step("1", "a", "b", how="nonsense"),)), "$.steps[0].how"),  # pyright: ignore[reportArgumentType] - that is the point
    "a number for a word": (Plan("", (Step("1", 7, "b"),)), "$.steps[0].title"),  # pyright: ignore[reportArgumentType] - that is the point
    "nothing": (None, "null"),
    "half a character": (Plan("", (Step("1", "a", "\ud800"),)), "surrogates"),
    "what no event can carry": (Plan("", (Step("1", "a", "b", call=ToolCall("t", {"x": object()})),)), "object"),
}


@pytest.mark.parametrize("kind", NO_PLANS)
async def test_what_is_no_plan_is_refused_where_it_was_shaped_by_name_and_field(kind: str) -> None:
    plan, where = NO_PLANS[kind]

    class Hop(Strategy):
        name = "hop"

        async def shape(self, brief: Brief, ask: Ask) -> Plan:
            return plan

    strategies = Strategies({**BUILT_IN.by_name, "hop": Hop()})
    goal = GoalUnderstood(restated="Do it", category="simple", kind="general", strategy="hop")
    with pytest.raises(InvalidInput, match="The strategy hop shaped what is no plan") as raised:
        await stage(strategies=strategies).handle(goal, ScriptedContext())
    assert raised.value.code == "strategy.plan"
    assert where in raised.value.message


async def test_a_plans_tool_call_may_have_any_arguments_that_json_has() -> None:
    call = ToolCall("t", {"names": ["a", "b"], "deep": {"n": 1}, "yes": True})

    class Hop(Strategy):
        name = "hop"

        async def shape(self, brief: Brief, ask: Ask) -> Plan:
            return Plan("", (Step("1", "a", "b", how="tool", call=call),))

    goal = GoalUnderstood(restated="Do it", category="simple", kind="general", strategy="hop")
    made = stage(strategies=Strategies({**BUILT_IN.by_name, "hop": Hop()}))
    (proposed, _) = await made.handle(goal, ScriptedContext())
    assert isinstance(proposed, PlanProposed)
    assert (proposed.plan.strategy, proposed.plan.steps[0].call) == ("hop", call)
