"""C. plan: an understood goal becomes a short, checked plan by a strategy, and what is left of one is planned again."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from consumers.strategies.registry import BUILT_IN
from schemas.errors import ModelFailed
from schemas.events import (
    GoalUnderstood,
    PlanProposed,
    QuestionAsked,
    ReplanRequested,
    StepFinished,
    StepReady,
)
from tests.rows.conftest import Build
from tests.rows.house import Asked, House, Reply, Says, act, decomposition, finish, step
from tests.workshop import eventually

GOAL = "a comprehensive online shop from scratch"
"""Complex: a model takes it apart."""
UNDERSTOOD: Reply = {"restated": "Build a comprehensive online shop.", "category": "multi_step", "first_step": ""}
TWO = decomposition(step("a", "Write the api."), step("b", "Test the api.", "qa", "a"))
OUT_OF_ORDER = ModelFailed("model.refused", "It will not.")


def done(asked: Asked) -> Reply:
    """Finishes each step with its own instruction."""
    return finish(f"Done: {asked.user.partition('<goal>')[2].partition('</goal>')[0]}")


def says(**more: Says) -> dict[str, Says]:
    return {"understand": UNDERSTOOD, "decompose": TWO, "act": done, "answer": "An answer.", "fuse": "A shop."} | more


# C1


async def test_C1_planners_and_doers_see_the_restated_goal_and_never_the_raw_text(house: Build) -> None:
    async with house(says()) as home:
        run = await home.submit("uhm xyzzy pls, comprehensive online shop, build it from scratch??")
        await home.end(run)
        raw = [each for each in home.model.asked if "xyzzy" in each.user]
        assert [each.prompt for each in raw] == ["understand"]
        assert "Build a comprehensive online shop." in home.heard("decompose")[0].user
        told = {each.type for each in await home.entries(run) if "xyzzy" in each.text}
        assert told == {"GoalSubmitted", "InferenceRequested"}, "the raw text goes no further"


async def test_C1_plans_are_short_and_a_model_is_asked_for_no_more_than_five_steps(house: Build) -> None:
    long = decomposition(*(step(str(n), f"Part {n}.") for n in range(6)))
    async with house(says(decompose=long)) as home:
        run = await home.submit(GOAL)
        plan = (await home.said(run, PlanProposed)).plan
        assert len(plan.steps) == 1, "what is too long is no plan"
        assert "One or two steps".casefold() in home.heard("decompose")[0].system.casefold()
        await home.end(run)
        for goal in ("What is an event?", "Zzz", "remember that the wifi password is 12", "fix the bug in docs"):
            run = await home.submit(goal)
            assert len((await home.said(run, PlanProposed)).plan.steps) == 1, goal
            await home.end(run)


# C2


async def test_C2_a_goal_is_taken_apart_into_steps_for_experts_with_what_each_needs(house: Build) -> None:
    async with house(says()) as home:
        run = await home.submit(GOAL)
        end = await home.end(run)
        plan = (await home.said(run, PlanProposed)).plan
        assert [(s.title, s.instruction, s.expert, s.depends_on) for s in plan.steps] == [
            ("Step a", "Write the api.", "backend", ()),
            ("Step b", "Test the api.", "qa", ("1",)),
        ]
        (asked,) = home.heard("decompose")
        assert "backend: " in asked.user, "it is told who is there, and what each can"
        assert asked.schema
        assert {"intent", "steps", "aggregate"} <= asked.schema["$defs"]["Decomposition"]["properties"].keys()
        fields: dict[str, Any] = asked.schema["$defs"]["PlannedStep"]["properties"]
        assert {"id", "title", "instruction", "expert", "depends_on", "expected"} <= fields.keys()
        assert "qa" in fields["expert"]["enum"]
        first, second = home.heard("act")
        assert "You find out whether things work" in second.system
        assert "Done: Write the api." in second.user
        assert "Done: Write the api." not in first.user
        assert (plan.aggregate, end.output, end.method) == (True, "A shop.", "parallel")


async def test_C2_answers_that_are_not_to_become_one_stand_one_after_the_other(house: Build) -> None:
    apart = decomposition(step("a", "Write the api."), step("b", "Write the page.", "frontend"), aggregate=False)
    async with house(says(decompose=apart)) as home:
        end = await home.run(GOAL)
        assert end.output == "## Step a\n\nDone: Write the api.\n\n## Step b\n\nDone: Write the page."
        assert home.heard("fuse") == []


# C3

BALLOT: Reply = {"reason": "I think so.", "answer": "42"}
CHOICE: Reply = {"reason": "It is the best.", "best": 2, "score": 60}
SHAPES: dict[str, dict[str, int]] = {
    "simple": {"answer": 1},
    "react": {"act": 1},
    "extended_thinking": {"think": 1, "answer": 1},
    "swarm": {"answer": 4, "fuse": 1},
    "consensus": {"vote": 3},
    "tree_of_thoughts": {"think": 6, "choose": 2, "answer": 1},
    "hierarchical": {"think": 3, "act": 3, "answer": 3},
    "department_heads": {"decompose": 1, "act": 2, "fuse": 1},
    "parallel": {"decompose": 1, "act": 2, "fuse": 1},
}


async def test_C3_there_are_all_strategies() -> None:
    assert SHAPES.keys() == BUILT_IN.by_name.keys()


@pytest.mark.parametrize("strategy", SHAPES)
async def test_C3_each_strategy_asks_in_its_own_shape(house: Build, strategy: str) -> None:
    numbered = iter(range(100))
    talking: dict[str, Says] = {"answer": lambda _: f"Answer {next(numbered)}.", "think": "A thought."}
    async with house(says(vote=BALLOT, choose=CHOICE, **talking)) as home:
        run = await home.submit("Fix the api backend and test it with pytest", strategy=strategy)
        end = await home.end(run)
        shape = Counter(home.asked)
        del shape["understand"]
        assert (end.status, end.method, dict(shape)) == ("completed", strategy, SHAPES[strategy])


async def test_C3_thoughts_feed_the_answer(house: Build) -> None:
    async with house(says(think="It is deep.")) as home:
        await home.run("Why is it so?", strategy="extended_thinking")
        assert "It is deep." in home.heard("answer")[0].user


async def test_C3_a_swarm_is_of_different_experts_side_by_side_and_its_answers_become_one(house: Build) -> None:
    numbered = iter(range(100))
    async with house(says(answer=lambda _: f"Answer {next(numbered)}.")) as home:
        run = await home.submit("Fix the api backend and test it with pytest", strategy="swarm")
        await home.end(run)
        ready = await home.events(run, StepReady)
        assert len({each.step.expert for each in ready}) == len(ready) == 4
        assert all(each.step.depends_on == () for each in ready)
        assert all(f"Answer {n}." in home.heard("fuse")[0].user for n in range(4))


async def test_C3_voters_are_asked_until_enough_agree_and_the_cost_is_told(house: Build) -> None:
    numbered = iter(["41", "42", "42.", "42", "7"])
    async with house(says(vote=lambda _: {"reason": "", "answer": next(numbered)})) as home:
        end = await home.run("How many?", strategy="consensus")
        assert home.asked.count("vote") == 4, "the fifth was not needed any more"
        assert end.output == "42"
        cost = sum(step.usage.tokens_in + step.usage.tokens_out for step in end.metadata.steps)
        assert "3 of 4 votes agree" in end.metadata.notes[-1]
        assert f"The vote took {cost:,} tokens." in end.metadata.notes[-1]
        assert [step.status for step in end.metadata.steps].count("skipped") == 1


async def test_C3_a_tree_goes_on_from_its_best_thought_and_ends_early_where_that_is_perfect(house: Build) -> None:
    thoughts = iter(f"Thought {n}." for n in range(1, 100))

    def think(_: Asked) -> Reply:
        return next(thoughts)

    async with house(says(think=think, choose=CHOICE)) as home:
        await home.run("Name our shop", strategy="tree_of_thoughts")
        chosen = home.heard("choose")[0].user.partition("2. ")[2].partition("\n")[0]
        assert chosen.startswith("Thought ")
        assert all(chosen in each.user for each in home.heard("think")[3:]), "the second three go on from it"
    async with house(says(think=think, choose={"reason": "", "best": 3, "score": 99})) as home:
        end = await home.run("Name our shop", strategy="tree_of_thoughts")
        assert (len(home.heard("think")), home.heard("answer")) == (3, [])
        assert end.output.startswith("Thought ")


async def test_C3_a_hierarchy_briefs_heads_and_these_their_specialists(house: Build) -> None:
    async with house(says(think="Do your part.")) as home:
        run = await home.submit("Fix the api backend and write an seo blog post", strategy="hierarchical")
        await home.end(run)
        plan = (await home.said(run, PlanProposed)).plan
        ranks = [home.expert(each.expert).rank for each in plan.steps]
        assert (ranks[0], ranks[-1], Counter(ranks)) == ("agent", "agent", {"agent": 2, "head": 4, "specialist": 4})


async def test_C3_a_head_splits_a_goal_among_its_own_department_only(house: Build) -> None:
    async with house(says()) as home:
        run = await home.submit("Fix the api backend and test it with pytest", strategy="department_heads")
        await home.end(run)
        plan = (await home.said(run, PlanProposed)).plan
        assert {home.expert(each.expert).department for each in plan.steps} == {"engineering"}
        assert "marketing" not in home.heard("decompose")[0].user.partition("<experts>")[2]


OWN = """
from typing import ClassVar
from consumers.strategies.strategy import Ask, Brief, Strategy
from schemas.plan import Plan, Step, ToolCall


class Own(Strategy):
    name: ClassVar[str] = "own"
    description: ClassVar[str] = "what this test wants"

    async def shape(self, brief: Brief, ask: Ask) -> Plan:
        def answer(id_: str, *needs: str, **more) -> Step:
            return Step(id_, id_, brief.goal, how="answer", depends_on=needs, **more)

        return Plan("own", (STEPS), notes=(NOTES))
"""


def own(folder: Path, steps: str, notes: str = "") -> str:
    """A folder with a strategy `own` of these steps, or an empty one with notes."""
    folder.mkdir()
    (folder / "own.py").write_text(OWN.replace("STEPS", steps).replace("NOTES", notes))
    return str(folder)


async def test_C3_a_new_strategy_is_one_new_file(house: Build, tmp_path: Path) -> None:
    there = own(tmp_path / "strategies", 'answer("1"),')
    async with house(says(), strategies_dir=there) as home:
        end = await home.run("Zzz", strategy="own")
        assert (end.method, end.output) == ("own", "An answer.")


# C4


async def test_C4_what_no_model_takes_apart_is_one_step_of_one_expert(house: Build) -> None:
    async with house(says(decompose=OUT_OF_ORDER)) as home:
        run = await home.submit(GOAL)
        end = await home.end(run)
        (only,) = (await home.said(run, PlanProposed)).plan.steps
        assert (only.instruction, only.expert != "") == ("Build a comprehensive online shop.", True)
        assert (end.status, end.output) == ("completed", "Done: Build a comprehensive online shop.")
        assert "It will not." in end.metadata.notes[0]


async def test_C4_an_expert_that_is_not_there_is_named_in_the_reason_of_an_empty_plan(house: Build) -> None:
    async with house(says()) as home:
        run = await home.submit("Zzz", expert="gardener")
        end = await home.end(run)
        assert end.status == "failed"
        assert end.error
        assert end.error.code == "expert.unknown"
        assert "gardener" in end.output
        # One that was there when the goal was understood, and has gone since:
        event = GoalUnderstood(restated="Zzz", category="multi_step", kind="complex", expert="quality")
        await home.publish("gone", event, "plan")
        plan = (await home.said("gone", PlanProposed)).plan
        assert plan.steps == ()
        assert plan.notes == ("No expert is called 'quality'.",)
        end = await home.end("gone")
        assert (end.status, end.error and end.error.code) == ("failed", "plan.empty")
        assert "No expert is called 'quality'." in end.output


@pytest.mark.parametrize("strategy", ["department_heads", "hierarchical"])
async def test_C4_where_nobodys_abilities_match_the_user_gets_a_direct_answer(house: Build, strategy: str) -> None:
    restated: Reply = {"restated": "Zzz", "category": "multi_step", "first_step": ""}
    async with house(says(understand=restated)) as home:
        run = await home.submit("Zzz", strategy=strategy)
        end = await home.end(run)
        assert (end.output, end.metadata.notes) == ("An answer.", ("Nobody's abilities match.",))
        assert [each.step.how for each in await home.events(run, StepReady)] == ["answer"]


# C5


async def test_C5_a_plan_is_repaired_before_anything_is_dispatched_and_says_what_was_repaired(
    house: Build, tmp_path: Path
) -> None:
    broken = """
        answer("a", "a", expert="backend"), answer("b", "zzz", expert="nobody"),
        answer("c", "e"), answer("d", "c"), answer("e", "d"), answer("f", capability="flying"),
        answer("g", capability="notes"),
    """
    async with house(says(), strategies_dir=own(tmp_path / "strategies", broken)) as home:
        run = await home.submit("Zzz", strategy="own")
        end = await home.end(run)
        notes = "\n".join(end.metadata.notes)
        for said in (
            "Step 'a' depended on itself.",
            "Step 'b' depended on 'zzz', which does not exist.",
            "Step 'b' was for 'nobody', whom nobody knows: it is nobody's.",
            "Step 'e' depended on 'd', which depends on it: the circle was cut there.",
            "Step 'f' needs 'flying', which nobody can.",
        ):
            assert said in notes
        assert {each.status for each in end.metadata.steps} == {"ok"}
        assert len(end.metadata.steps) == 7
        assert end.metadata.steps[-1].expert == "memo", "a capability finds its expert"


async def test_C5_the_plan_of_a_run_can_be_looked_at_while_it_goes_on_and_afterwards(house: Build) -> None:
    async with house(says(), delay=0.05) as home:
        run = await home.submit(GOAL)
        await home.said(run, StepReady)
        assert [each.status for each in (await home.victoria.plan(run)).steps] in (["running", "pending"], ["ok"] * 2)
        await home.end(run)
        plan = await home.victoria.plan(run)
        assert [(each.id, each.expert, each.depends_on, each.status) for each in plan.steps] == [
            ("1", "backend", (), "ok"),
            ("2", "qa", ("1",), "ok"),
        ]


# C6

THREE = decomposition(
    step("a", "Write the api."), step("b", "Test the api.", "qa", "a"), step("c", "Deploy it.", "devops", "b")
)


def failing(word: str) -> Says:
    """Finishes each step but the one with this word in its instruction, which has no answer."""

    def said(asked: Asked) -> Reply:
        return finish("") if word in asked.user.partition("<goal>")[2] else done(asked)

    return said


async def test_C6_after_a_failure_what_is_left_is_planned_again_and_what_is_done_stays(house: Build) -> None:
    again = decomposition(step("x", "Try the api by hand.", "qa", "done-1"), step("y", "Deploy it.", "devops", "x"))
    async with house(says(decompose=THREE, act=failing("Test"), replan=again)) as home:
        run = await home.submit(GOAL)
        end = await home.end(run)
        (asked,) = home.heard("replan")
        assert "done-1 (ok) Step a: Done: Write the api." in asked.user
        assert "done-2 (failed)" in asked.user
        assert "Step c: Deploy it." in asked.user
        done_by = Counter(each.step.instruction for each in await home.events(run, StepReady))
        assert done_by == dict.fromkeys(("Write the api.", "Test the api.", "Try the api by hand.", "Deploy it."), 1)
        assert [each.status for each in end.metadata.steps] == ["ok", "failed", "ok", "ok"]
        assert (await home.victoria.plan(run)).revision == 1


async def test_C6_a_run_is_planned_again_three_times_at_most(house: Build) -> None:
    plans = decomposition(step("x", "Test it in another way.", "qa"), aggregate=False)
    async with house(says(decompose=TWO, act=failing("Test"), replan=plans)) as home:
        run = await home.submit(GOAL)
        end = await home.end(run)
        assert len(home.heard("replan")) == len(await home.events(run, ReplanRequested)) == 3
        assert [each.status for each in end.metadata.steps] == ["ok", "failed", "failed", "failed", "failed"]
        assert (end.status, "Write the api." in end.output) == ("completed", True)


async def test_C6_where_nobody_can_plan_again_the_run_still_ends_with_what_it_has(house: Build) -> None:
    async with house(says(decompose=THREE, act=failing("Test"), replan=OUT_OF_ORDER)) as home:
        end = await home.run(GOAL)
        assert (end.status, "Write the api." in end.output) == ("completed", True)
        assert any("It will not." in note for note in end.metadata.notes)


async def test_C6_a_clarification_changes_what_is_left(house: Build) -> None:
    question = act("ask_user", question="Which colour?")

    def acts(asked: Asked) -> Reply:
        return question if "Write" in asked.user.partition("<goal>")[2] and "blue" not in asked.user else done(asked)

    again = decomposition(step("x", "Test the blue shop.", "qa"))
    async with house(says(decompose=TWO, act=acts, replan=again)) as home:
        run = await home.submit(GOAL)
        asked = await home.said(run, QuestionAsked)
        await eventually(lambda: home.waits(run))
        await answer(home, asked.question_id, "blue")
        await home.end(run)
        (told,) = home.heard("replan")
        assert "blue" in told.user.partition("<why>")[2]
        ended = {each.step_id: each.output for each in await home.events(run, StepFinished)}
        assert list(ended.values()).count("Done: Test the api.") == 0, "what was planned before is not done"
        assert "Done: Test the blue shop." in ended.values()


async def answer(home: House, question_id: str, text: str) -> None:
    """As a door does it."""
    await home.victoria.answer(await home.victoria.questions.find(question_id), text)
