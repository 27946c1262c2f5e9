"""Each strategy has its shape, whoever is there: who does what, side by side or in turn, and what counts."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consumers.runs.check import checked
from consumers.runs.release import in_order
from consumers.strategies.consensus import ANGLES, QUORUM
from consumers.strategies.decomposer import Decomposition, PlannedStep
from consumers.strategies.registry import BUILT_IN
from consumers.strategies.strategy import Brief
from schemas.plan import Plan, Step
from tests.consumers.colleagues import STAFF, Asked, brief

RANKS = {each.name: each.rank for each in STAFF}
DEPARTMENTS = {each.name: each.department for each in STAFF}


async def shaped(name: str, told: Brief, *answers: object) -> Plan:
    return await BUILT_IN.by_name[name].shape(told, Asked(*answers))


def depth(plan: Plan) -> int:
    """How many steps the longest way through a plan has."""
    longest: dict[str, int] = {}
    for step in in_order(plan):
        longest[step.id] = 1 + max((longest[other] for other in step.depends_on), default=0)
    return max(longest.values(), default=0)


def hows(plan: Plan) -> Counter[str]:
    return Counter(step.how for step in plan.steps)


def outer(plan: Plan) -> list[Step]:
    return [step for step in plan.steps if not step.inner]


async def test_simple_is_one_answer_and_react_one_step_with_tools_and_a_hint() -> None:
    made = await shaped("simple", brief("What is Redis?", expert="backend"))
    assert made.steps == (Step("1", "answer", "What is Redis?", how="answer", expert="backend"),)
    made = await shaped("react", brief("Find it.", first_step="list_directory web"))
    assert made.steps == (Step("1", "find out", "Find it.", expert="victoria", expected="list_directory web"),)


async def test_extended_thinking_thinks_inside_and_then_answers() -> None:
    made = await shaped("extended_thinking", brief())
    assert [(s.how, s.inner, s.depends_on) for s in made.steps] == [("think", True, ()), ("answer", False, ("1",))]


async def test_a_swarm_is_three_or_four_different_experts_side_by_side_and_fused() -> None:
    for goal, least in (("Design a logo", 3), ("Fix the api, its css and its pytest tests, and deploy it", 4)):
        made = await shaped("swarm", brief(goal))
        assert least <= len({step.expert for step in made.steps}) == len(made.steps) <= 4
        assert (hows(made), depth(made), made.aggregate) == ({"answer": len(made.steps)}, 1, True)


async def test_a_swarm_begins_with_those_whose_words_the_goal_has() -> None:
    made = await shaped("swarm", brief("Fix the pytest tests of our api endpoint"))
    assert {"backend", "qa"} <= {step.expert for step in made.steps}


async def test_consensus_is_five_votes_from_different_angles_of_which_three_decide() -> None:
    made = await shaped("consensus", brief())
    assert (hows(made), depth(made), made.quorum, made.aggregate) == ({"vote": 5}, 1, QUORUM, False)
    assert len({step.instruction for step in made.steps}) == 5
    assert all(step.instruction.endswith(angle) for step, angle in zip(made.steps, ANGLES, strict=True))
    assert made.quorum > len(made.steps) / 2


async def test_a_tree_has_two_levels_of_three_thoughts_of_each_of_which_the_best_goes_on() -> None:
    made = await shaped("tree_of_thoughts", brief())
    assert hows(made) == {"think": 6, "choose": 2, "answer": 1}
    assert depth(made) == 5
    first, second = (step for step in made.steps if step.how == "choose")
    assert (len(first.depends_on), len(second.depends_on)) == (3, 3)
    assert first.any_input
    assert second.any_input
    assert [s.depends_on for s in made.steps if s.how == "think"] == [()] * 3 + [(first.id,)] * 3
    assert [(s.how, s.depends_on) for s in outer(made)] == [("answer", (second.id,))]


async def test_a_hierarchy_goes_down_over_heads_to_specialists_and_up_again() -> None:
    made = await shaped("hierarchical", brief("Fix the api backend and write an seo blog post about it"))
    by_rank = Counter(RANKS[step.expert] for step in made.steps)
    assert by_rank == {"agent": 2, "head": 4, "specialist": 4}
    assert depth(made) == 5
    root, answer = made.steps[0], made.steps[-1]
    assert (root.expert, root.how, answer.expert, answer.how) == ("victoria", "think", "victoria", "answer")
    assert outer(made) == [answer]
    ranks = {step.id: RANKS[step.expert] for step in made.steps}
    for step in made.steps[1:-1]:
        above = {ranks[other] for other in step.depends_on}
        assert above == ({"head"} if RANKS[step.expert] == "specialist" else above & {"agent", "specialist"})
        if RANKS[step.expert] == "specialist":
            (head,) = (s.expert for s in made.steps if s.id in step.depends_on)
            assert DEPARTMENTS[head] == DEPARTMENTS[step.expert]


async def test_something_simple_goes_to_one_specialist_of_the_department() -> None:
    made = await shaped("department_heads", brief("Помоги с анализом данных", category="simple"))
    assert [(step.expert, step.id) for step in made.steps] == [("data_analyst", "1")]


async def test_a_head_splits_a_goal_among_its_own_specialists_only() -> None:
    ask = Asked(
        Decomposition(
            "a login",
            (PlannedStep("a", "Api", "Do.", "backend"), PlannedStep("b", "Page", "Do.", "frontend", ("a",), "a page")),
            aggregate=False,
        )
    )
    made = await BUILT_IN.by_name["department_heads"].shape(brief("Build a login with an api and css"), ask)
    assert [(s.expert, s.depends_on, s.expected) for s in made.steps] == [
        ("backend", (), ""),
        ("frontend", ("a",), "a page"),
    ]
    assert (made.aggregate, made.revisable) == (True, True)
    ((name, question),) = ask.questions
    told = question.user.partition("<experts>")[2].partition("</experts>")[0]
    assert name == "decompose"
    assert {line.split(":")[0] for line in told.splitlines()} == {"backend", "frontend", "mobile", "qa"}
    assert "marketing" not in str(question.schema)


async def test_without_a_model_the_best_specialists_do_the_whole_and_the_head_sums_up() -> None:
    made = await shaped("department_heads", brief("Fix the pytest tests of our api endpoint"))
    assert [(RANKS[s.expert], s.inner) for s in made.steps] == [("specialist", True)] * 2 + [("head", False)]
    assert (made.steps[2].depends_on, made.steps[2].any_input) == (("1", "2"), True)
    assert "model.none" in made.notes[0]


@pytest.mark.parametrize("name", ["department_heads", "hierarchical"])
async def test_a_goal_that_nobody_is_able_for_gets_a_direct_answer(name: str) -> None:
    made = await shaped(name, brief("Zzz", needs=(), claimed=()))
    assert [(s.expert, s.how) for s in made.steps] == [("victoria", "answer")]
    assert made.notes


async def test_a_model_splits_a_complex_goal_over_experts_who_work_in_their_own_manner() -> None:
    steps = (PlannedStep("x", "Write", "Write it.", "content_writer"), PlannedStep("y", "Fix", "Fix it.", "backend"))
    made = await shaped("parallel", brief(), Decomposition("both", steps))
    assert [(s.expert, s.how) for s in made.steps] == [("content_writer", "answer"), ("backend", "react")]
    assert (made.aggregate, made.revisable) == (True, True)
    made = await shaped("parallel", brief(), Decomposition("both", steps, aggregate=False))
    assert not made.aggregate
    made = await shaped("parallel", brief(), Decomposition("one", steps[:1]))
    assert not made.aggregate


async def test_what_no_model_splits_is_one_step_of_who_fits_best() -> None:
    made = await shaped("parallel", brief("Fix the pytest tests", first_step="list_directory tests"))
    assert [(s.expert, s.how, s.expected) for s in made.steps] == [("qa", "react", "list_directory tests")]
    assert "model.none" in made.notes[0]
    assert [s.expert for s in (await shaped("parallel", brief("Zzz", colleagues=()))).steps] == ["victoria"]


STAFFS = st.lists(st.sampled_from(STAFF), unique_by=lambda each: each.name, max_size=len(STAFF)).map(tuple)
NAMES = st.sampled_from([each.name for each in STAFF])


@given(
    st.sampled_from(sorted(BUILT_IN.by_name)),
    STAFFS,
    st.lists(NAMES, unique=True, max_size=4).map(tuple),
    st.lists(st.sampled_from(["planning", "execution", "research", "nothing"]), max_size=3).map(tuple),
    NAMES | st.just(""),
    st.sampled_from(["simple", "investigate", "multi_step"]),
    st.floats(-1, 2),
)
async def test_whoever_is_there_every_plan_has_an_answer_and_needs_no_repair(
    name: str,
    staff: tuple[object, ...],
    claimed: tuple[str, ...],
    needed: tuple[str, ...],
    expert: str,
    category: str,
    load: float,
) -> None:
    told = brief(colleagues=staff, claimed=claimed, needs=needed, expert=expert, category=category)
    told = replace(told, colleagues=tuple(replace(each, load=load) for each in told.colleagues))
    made = await shaped(name, told)
    assert made.strategy == name
    assert outer(made)
    assert checked(made) == made
    assert all(step.expert and step.instruction.startswith(told.goal) for step in made.steps)


async def test_specialists_use_tools_only_for_what_is_done_with_tools() -> None:
    for goal, how in (("Compare api designs for our backend", "answer"), ("Deploy our api backend", "react")):
        made = await shaped("hierarchical", brief(goal))
        works = [step for step in made.steps if RANKS[step.expert] == "specialist" and step.expert != "project_manager"]
        assert {step.how for step in works} == {how}


@pytest.mark.parametrize("name", ["swarm", "consensus"])
async def test_who_only_keeps_things_is_not_asked_for_an_opinion(name: str) -> None:
    made = await shaped(name, brief("Which note-taking app and calendar should I use?", claimed=("memo", "schedule")))
    assert {"memo", "schedule"}.isdisjoint(step.expert for step in made.steps)
