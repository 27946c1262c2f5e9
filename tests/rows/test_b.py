"""B. understand: a raw goal becomes a clear one, and where rules are sure no model is asked."""

from pathlib import Path

import pytest

from consumers.words.routing import Router
from schemas.errors import ModelFailed
from schemas.events import Exchange, GoalUnderstood, PlanProposed, StepReady
from schemas.plan import TaskKind
from tests.rows.conftest import Build
from tests.rows.house import Reply, Says, finish

RAW = "page X errors why"
SURE = "restart nginx on the staging cluster"
"""Rules are sure that this is for devops."""


def understood(restated: str, category: str = "simple", first_step: str = "") -> Reply:
    return {"restated": restated, "category": category, "first_step": first_step}


async def test_B1_one_quick_call_makes_a_clear_sentence_a_category_and_a_first_step_of_a_goal(house: Build) -> None:
    said = understood("Why does the page X show errors?", "multi_step", "list_directory docs")
    async with house({"understand": said, "act": finish("It is so.")}) as home:
        run = await home.submit("fix page X errors, why?")
        found = await home.said(run, GoalUnderstood)
        assert [found.restated, found.category] == ["Why does the page X show errors?", "multi_step"]
        assert (found.first_step, found.source) == ("list_directory docs", "model")
        await home.end(run)
        assert home.asked.count("understand") == 1


@pytest.mark.heavy
async def test_B1_a_real_model_too_gives_a_sentence_a_category_and_a_first_step(house: Build, model_file: Path) -> None:
    async with house(model="local", local_model=str(model_file)) as home:
        run = await home.submit("Помоги с анализом данных")
        found = await home.said(run, GoalUnderstood, within=60)
        assert found.spent[0].usage.calls >= 1
        assert found.restated
        assert found.category in ("simple", "investigate", "multi_step")
        assert len(found.first_step) <= 200


async def test_B2_a_goal_that_is_surely_an_experts_goes_straight_to_its_step_without_a_model(house: Build) -> None:
    async with house({"act": finish("Restarted.")}) as home:
        run = await home.submit(SURE)
        end = await home.end(run)
        assert (end.status, end.output) == ("completed", "Restarted.")
        (ready,) = await home.events(run, StepReady)
        assert ready.step.expert == "devops"
        assert await home.events(run, GoalUnderstood) == [], "the plan stage has not heard of it"
        assert home.asked == ["act"], "only the step itself asks"


@pytest.mark.parametrize(
    ("goal", "expert"),
    [
        ("Create an appointment with the dentist on Friday at 10", "schedule"),
        ("look up what I noted and jot down what is new", "memo"),
    ],
)
async def test_B2_a_keeper_of_notes_or_calendar_uses_its_tools_whatever_kind_of_goal_it_is(
    house: Build, goal: str, expert: str
) -> None:
    async with house({"act": finish("Done.")}) as home:
        run = await home.submit(goal)
        await home.end(run)
        (ready,) = await home.events(run, StepReady)
        assert (ready.step.expert, ready.step.how, home.asked) == (expert, "react", ["act"])


async def test_B2_a_goal_that_nobodys_words_are_sure_of_is_planned(house: Build) -> None:
    async with house({"understand": understood(RAW), "answer": "So."}) as home:
        run = await home.submit(RAW)
        await home.end(run)
        assert (await home.said(run, GoalUnderstood)).confidence < 0.8


async def test_B2_the_last_turn_tells_whose_a_goal_is_that_only_goes_on(house: Build) -> None:
    before = (Exchange("restart nginx on the staging cluster", "Done."),)
    async with house() as home:
        alone, after = await home.submit("and again please"), await home.submit("and again please", history=before)
        assert (await home.said(alone, PlanProposed)).plan.steps[0].expert == "victoria"
        assert (await home.said(after, PlanProposed)).plan.steps[0].expert == "devops"
        assert (await home.said(after, GoalUnderstood)).confidence < 0.8, "it went through the plan stage"


async def test_B2_the_same_goal_is_routed_once(house: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    routed: list[str] = []

    def route(router: Router, goal: str, *more: object) -> object:
        routed.append(goal)
        return original(router, goal, *more)  # pyright: ignore[reportArgumentType] - passed on as it came

    original = Router.route
    monkeypatch.setattr(Router, "route", route)
    async with house() as home:
        for _ in range(3):
            await home.run(SURE)
    assert routed == [SURE]


async def test_B3_the_next_turn_of_a_session_goes_to_the_expert_that_had_the_last_one(house: Build) -> None:
    async with house({"act": finish("Done."), "understand": understood("And on Friday?")}) as home:
        await home.run(SURE, session="ours")
        follow_up, elsewhere = await home.submit("and again please", session="ours"), await home.submit("and again")
        assert (await home.said(follow_up, StepReady)).step.expert == "devops"
        assert await home.events(follow_up, GoalUnderstood) == [], "for sure: it was not planned"
        assert (await home.said(elsewhere, StepReady)).step.expert == "victoria"


async def test_B3_words_that_are_sure_of_another_leave_the_session_for_him(house: Build) -> None:
    async with house({"act": finish("Done.")}) as home:
        await home.run(SURE, session="ours")
        run = await home.submit("add an integration test for the login form, with pytest", session="ours")
        assert (await home.said(run, StepReady)).step.expert == "qa"


async def test_B3_also_an_expert_whose_work_rules_did_has_the_next_turn(house: Build) -> None:
    async with house({"act": finish("Done.")}) as home:
        assert "Wrote note" in (await home.run("make a note that the wifi password is 12", session="ours")).output
        run = await home.submit("and again please", session="ours")
        assert (await home.said(run, StepReady)).step.expert == "memo"


async def test_B4_a_query_is_cleaned_given_to_a_role_and_to_what_it_was_said_in(house: Build) -> None:
    before = (Exchange("We test with pytest.", "Good to know."),)
    async with house({"act": finish("Yes."), "answer": "Yes."}) as home:
        await home.run(" @qa   is this\t  fine?", history=before)
        (asked,) = home.model.asked
        assert "<goal>is this fine?</goal>" in asked.user
        assert "You find out whether things work" in asked.system, "the role's own instructions"
        for part in ("Project: project", "We test with pytest.", "Good to know."):
            assert part in asked.user.partition("<context>")[2].partition("</context>")[0]


KINDS: dict[TaskKind, tuple[str, str]] = {
    "fast": ("ls docs", "rules"),
    "coding": ("refactor this and then fix the bug", "react"),
    "general": ("Zzz", "parallel"),
    "reasoning": ("compare A with B and then C", "extended_thinking"),
    "planning": ("plan the release and write the schedule for it", "department_heads"),
    "execution": ("deploy it and then check it", "react"),
    "complex": ("a comprehensive online shop from scratch", "parallel"),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_B5_by_the_kind_of_its_task_a_goal_gets_its_strategy(house: Build, kind: TaskKind) -> None:
    goal, strategy = KINDS[kind]
    says: dict[str, Says] = {"understand": understood(goal, "multi_step")}
    async with house(says) as home:
        run = await home.submit(goal)
        assert (await home.said(run, GoalUnderstood)).kind == kind
        assert (await home.said(run, PlanProposed)).plan.strategy == strategy
        await home.end(run)


FAILURES: dict[str, Says] = {
    "engine": ModelFailed("model.engine", "It broke."),
    "refused": ModelFailed("model.refused", "It will not."),
    "garbage": "I would say it is simple.",
    "another goal": understood("What is the capital of France?", "multi_step"),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_B6_whatever_the_model_does_wrong_rules_decide_and_the_run_goes_on(house: Build, failure: str) -> None:
    async with house({"understand": FAILURES[failure], "answer": "Because.", "act": finish("Because.")}) as home:
        run = await home.submit(RAW)
        found = await home.said(run, GoalUnderstood)
        assert found.restated == RAW
        end = await home.end(run)
        assert (end.status, end.output) == ("completed", "Because.")


async def test_B6_without_any_model_the_run_goes_on_and_says_so(house: Build) -> None:
    async with house() as home:
        assert (await home.run("List the files in the folder docs")).output == "alpha.txt\nbeta.txt"
        run = await home.submit(RAW)
        end = await home.end(run)
        assert end.status == "completed"
        assert (await home.said(run, GoalUnderstood)).source == "rules"
        assert "No model answered" in end.output
