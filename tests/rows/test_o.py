"""O. Experts: one YAML file each."""

from typing import Any

import pytest

from schemas.events import PlanProposed, StepReady
from tests.rows.conftest import Build
from tests.rows.house import Asked, act, finish, in_turn

BEEKEEPER = """\
name: beekeeper
display_name: Beekeeper
emoji: 🐝
title: Looks after bees
department: garden
rank: assistant
strategy: react
max_iterations: 2
tools: [finish, list_directory]
capabilities: {bees: 0.9}
instructions: You look after bees, and never hurry.
keywords:
  sure: {en: [bees, my bees, beehive, my beehive]}
"""
GOAL = "look after my bees in my beehive"


def tools(asked: Asked) -> set[str]:
    """The tools a step was offered, by the schema of its answer."""
    assert asked.schema
    kinds: list[dict[str, Any]] = list(asked.schema["$defs"].values())
    return {kind["properties"]["tool"]["enum"][0] for kind in kinds if "tool" in kind["properties"]}


async def test_O1_a_new_expert_is_one_new_file_which_works_at_once_and_changes_no_code(house: Build) -> None:
    async with house({"act": finish("Bzz.")}) as home:
        before = await home.submit(GOAL)
        assert (await home.said(before, StepReady)).step.expert != "beekeeper"
        await home.end(before)
        folder = home.victoria.settings.experts_dir
        folder.mkdir()
        (folder / "beekeeper.yaml").write_text(BEEKEEPER)
        run = await home.submit(GOAL)
        end = await home.end(run)
        (done,) = end.metadata.steps
        assert (end.output, done.expert) == ("Bzz.", "beekeeper")
        asked = home.heard("act")[-1]
        assert "You look after bees, and never hurry." in asked.system
        assert tools(asked) == {"finish", "list_directory", "missing_capability"}


async def test_O1_an_expert_works_by_its_own_strategy_and_no_longer_than_it_may(house: Build) -> None:
    async with house({"act": act("list_directory", path="."), "think": "Hm.", "answer": "Honey."}) as home:
        folder = home.victoria.settings.experts_dir
        folder.mkdir()
        (folder / "beekeeper.yaml").write_text(BEEKEEPER)
        end = await home.run(GOAL)
        assert (end.method, end.metadata.steps[0].status, home.asked.count("act")) == ("react", "partial", 2)
        (folder / "beekeeper.yaml").write_text(BEEKEEPER.replace("react", "extended_thinking"))
        end = await home.run(GOAL)
        assert (end.method, end.output) == ("extended_thinking", "Honey.")


async def test_O1_an_experts_file_that_cannot_be_read_harms_nobody_else(house: Build) -> None:
    async with house({"act": finish("Noted.")}) as home:
        folder = home.victoria.settings.experts_dir
        folder.mkdir()
        (folder / "beekeeper.yaml").write_text(BEEKEEPER.replace("title:", "titel:"))
        assert (await home.run("make a note that the wifi password is 12")).metadata.steps[0].expert == "memo"


async def test_O1_memo_writes_notes_and_finds_them_again(house: Build) -> None:
    wrote = in_turn(
        act("memo_write", text="The wifi password is 12.", tags="home"),
        finish("Noted."),
        act("memo_search", words="wifi"),
        finish("It is 12."),
    )
    async with house({"act": wrote}) as home:
        await home.run("@memo the wifi password is 12")
        run = await home.submit("@memo what is the wifi password?")
        end = await home.end(run)
        assert (end.metadata.steps[0].expert, end.metadata.steps[0].tools) == ("memo", ("memo_search",))
        assert "The wifi password is 12." in home.heard("act")[-1].user


async def test_O1_notes_and_calendar_work_without_any_model(house: Build) -> None:
    async with house() as home:
        await home.run("make a note that the wifi password is 12")
        end = await home.run("look up my note about the wifi password")
        assert (end.metadata.steps[0].expert, end.method) == ("memo", "rules")
        assert "the wifi password is 12" in end.output


async def test_O1_schedule_creates_queries_and_changes_entries(house: Build) -> None:
    made = in_turn(
        act("schedule_create", title="Dentist", start="2030-05-03T10:00"),
        finish("It is in."),
        act("schedule_query", day="2030-05-03"),
        lambda asked: act("schedule_change", id=asked.user.partition("[")[2].partition("]")[0], start="11:30"),
        finish("Moved."),
        act("schedule_query", day="2030-05-03"),
        finish("At half past eleven."),
    )
    async with house({"act": made}, time_zone="Europe/Berlin") as home:
        for goal in ("set a reminder in my calendar", "reschedule the appointment", "check my calendar, am i free"):
            run = await home.submit(goal)
            assert (await home.end(run)).metadata.steps[0].expert == "schedule", goal
        assert "11:30-12:30: Dentist" in home.heard("act")[-1].user


SPECIALISTS = ("marketing", "frontend", "backend", "mobile", "devops", "data_analyst", "ux_designer", "project_manager",
               "qa", "content_writer")  # fmt: skip


@pytest.mark.parametrize("name", [*SPECIALISTS, "memo", "schedule", "victoria", "veronica"])
async def test_O1_every_expert_that_comes_with_victoria_can_be_given_a_goal(house: Build, name: str) -> None:
    async with house({"act": finish("Done.")}) as home:
        run = await home.submit("Zzz", expert=name, strategy="react")
        end = await home.end(run)
        assert (end.status, end.output) == ("completed", "Done.")
        assert (await home.said(run, PlanProposed)).expert == name
        assert {step.expert for step in end.metadata.steps} == {name}
        assert home.expert(name).instructions.strip() in home.model.asked[-1].system
