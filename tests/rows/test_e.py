"""E. delegate: what another agent is best at goes there, comes back with its name, and is done here if it fails."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumers.experts.roster import Folders
from consumers.redis_store import RedisStore
from consumers.tools.memo import Note
from consumers.tools.schedule import Entry
from schemas.events import DelegationRequested, RunProgressed, StepFinished
from tests.consumers.agents import FakeAgent, Script, fake_agent, says, sends
from tests.rows.conftest import Build
from tests.rows.house import Asked, House, in_turn
from tests.workshop import eventually

GOALS = {
    "planning": ("Break down the roadmap into milestones", "victoria"),
    "reasoning": ("Explain why the sky is blue", "victoria"),
    "execution": ("Execute it and launch it", "veronica"),
    "file_operations": ("Rename these folders", "veronica"),
    "research": ("Investigate the latest articles on the internet", "veronica"),
    "coordination": ("Delegate it to the departments and stakeholders", "victoria"),
    "code_analysis": ("Refactor these classes and functions, with a stack trace", "victoria"),
    "system_admin": ("The certificates of nginx on the kubernetes cluster", "veronica"),
}


@pytest.fixture
async def victoria() -> AsyncIterator[FakeAgent]:
    async with fake_agent() as agent:
        yield agent


@pytest.fixture
async def veronica() -> AsyncIterator[FakeAgent]:
    async with fake_agent() as agent:
        yield agent


def act(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"tool": tool, "thought": "because", **arguments}


HERE = {"act": act("finish", answer="done here")}
DO = "Run the script and delete the files"


async def test_E1_what_a_goal_needs_is_told_by_its_words_and_decides_which_agent_gets_it(
    house: Build, victoria: FakeAgent, veronica: FakeAgent
) -> None:
    agents = {"victoria": victoria, "veronica": veronica}
    async with house(HERE, agent="qa", victoria_url=victoria.url, veronica_url=veronica.url) as home:
        for need, (goal, agent) in GOALS.items():
            end = await home.run(goal, expert="victoria", strategy="react")
            assert (end.metadata.delegated_to, need) == (agent, need)
            assert agents[agent].asked[-1].body["goal"].startswith(goal), need
    assert (len(victoria.asked), len(veronica.asked)) == (4, 4)


async def test_E2_the_best_one_by_capability_and_load_gets_it_and_agents_are_configuration(
    house: Build, victoria: FakeAgent, veronica: FakeAgent
) -> None:
    experts = Folders().roster().experts
    for name, able in (
        ("victoria", {"planning", "reasoning", "coordination", "code_analysis"}),
        ("veronica", {"execution", "file_operations", "research", "system_admin"}),
    ):
        assert experts[name].capabilities.keys() == able
        assert all(0.85 <= effect <= 0.98 for effect in experts[name].capabilities.values())

    both = "Run the script, and explain why"  # an execution, a little better at veronica, and a reasoning
    settings = {"agent": "qa", "agents": f"victoria={victoria.url}, veronica={veronica.url}", "delegate_at_once": 2}
    async with house(HERE, **settings) as home:
        end = await home.run(both, expert="victoria", strategy="react")
        assert end.metadata.delegated_to == "veronica"
        veronica.free.clear()
        busy = [await home.submit(DO, expert="victoria", strategy="react")]

        async def has_begun() -> bool:
            return len(veronica.asked) == 2

        await eventually(has_begun)
        end = await home.run(both, expert="victoria", strategy="react")
        assert end.metadata.delegated_to == "victoria", "veronica has something to do"
        veronica.free.set()
        assert (await home.end(busy[0])).metadata.delegated_to == "veronica"


async def test_E3_a_step_is_posted_to_the_agents_door_and_the_answer_names_who_did_it(
    house: Build, veronica: FakeAgent
) -> None:
    async with house(HERE, veronica_url=veronica.url) as home:
        assert home.victoria.settings.delegate_timeout == 300
        run = await home.submit(DO, expert="veronica", strategy="react")
        end = await home.end(run)
        request = await home.said(run, DelegationRequested)
        assert home.asked == [], "no model was asked here"
    (asked,) = veronica.asked
    assert asked.path.startswith("/run?")
    assert asked.body["goal"] == request.step.instruction == DO
    assert asked.headers["victoria-delegated-by"] == "victoria"
    assert (end.status, end.output, end.metadata.delegated_to) == ("completed", "far work", "veronica")
    assert (end.metadata.source, end.metadata.model) == ("agent", "far-model")
    assert (end.metadata.tokens_in, end.metadata.tokens_out, end.metadata.calls) == (30, 12, 1)
    assert end.metadata.steps[0].agent == "veronica"


FAILURES: dict[str, tuple[Script | None, str]] = {
    "it answers 500": (says({}, 500), "answered with status 500"),
    "it hangs": (sends(hold=True), "was not ready within 1 s"),
    "it sends garbage": (says(b"<html>"), "what is no answer"),
    "it has nothing to say": (says({"status": "success", "output": " ", "knowledge": {}}), "no output"),
    "it disappears in mid-work": (sends(b"HTTP/1.1 200 OK\r\n"), "went away in mid-work"),
    "it could not do it": (says({"status": "error", "output": "no", "knowledge": {}}), "could not do it: no"),
    "it is not there": (None, "can't be reached"),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_E4_whatever_fails_there_is_recorded_and_the_run_goes_on_by_itself(
    house: Build, veronica: FakeAgent, failure: str
) -> None:
    script, why = FAILURES[failure]
    veronica.script = script or veronica.script
    url = veronica.url if script else "http://127.0.0.1:1"
    async with house(HERE, veronica_url=url, delegate_timeout=1) as home:
        run = await home.submit(DO, expert="veronica", strategy="react")
        end = await home.end(run)
        first = await home.said(run, StepFinished)
    assert (end.status, end.output, end.metadata.delegated_to) == ("completed", "done here", None)
    assert first.error
    assert first.error.code.startswith("delegation.")
    (note,) = end.metadata.notes
    assert note.startswith("Step '1' was not done by veronica, so it was done here: ")
    assert why in note
    assert len(veronica.asked) == bool(script), "once"
    assert not veronica.did


# E5

TOMORROW = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
APPOINTMENT = act("schedule_create", title="Dentist", start=f"{TOMORROW}T15:00")


def stored(home: House) -> RedisStore:
    v = home.victoria
    return RedisStore(v.client, v.keys, v.projects.resolve(""))


async def test_E5_what_an_expert_cannot_do_goes_to_the_one_that_declares_it_who_does_it(house: Build) -> None:
    note = act("memo_write", text="The dentist is in Main Street 5.")
    missing = act("missing_capability", needed="calendar")
    done = act("finish", answer="The dentist is at three tomorrow, in Main Street 5.")
    async with house({"act": in_turn(note, missing, APPOINTMENT, done)}, time_zone="UTC") as home:
        run = await home.submit("Make an appointment with the dentist tomorrow at 15:00", expert="memo")
        end = await home.end(run)
        (entry,) = await stored(home).scan(Entry)
        (kept,) = await stored(home).scan(Note)
        told = [each.text for each in await home.events(run, RunProgressed) if each.kind == "handoff"]
        assert home.model
        at_memo, _, at_schedule, _ = [each for each in home.model.asked if each.prompt == "act"]
    assert (end.status, end.output) == ("completed", "The dentist is at three tomorrow, in Main Street 5.")
    assert (entry.title, f"{entry.at:%Y-%m-%dT%H:%M}") == ("Dentist", f"{TOMORROW}T15:00")
    assert kept.text == "The dentist is in Main Street 5."
    assert told == ["memo → schedule: calendar"]
    assert end.metadata.steps[0].expert == "schedule"
    assert "You keep notes" in at_memo.system
    assert "schedule_create(" not in at_memo.user
    assert "You keep the calendar" in at_schedule.system
    assert "Main Street 5" in at_schedule.user, "with what was seen before"


async def test_E5_a_circle_of_handoffs_ends_with_a_clear_answer(house: Build) -> None:
    def back_and_forth(asked: Asked) -> dict[str, Any]:
        return act("missing_capability", needed="calendar" if "You keep notes" in asked.system else "notes")

    async with house({"act": back_and_forth}) as home:
        end = await home.run("Keep it somewhere", expert="memo")
        assert home.asked == ["act", "act"]
    assert end.error
    assert (end.status, end.error.code) == ("failed", "handoff.circle")
    assert "memo → schedule → memo" in end.output
    assert "'notes'" in end.output
    assert "victoria experts" in end.output


async def test_E5_what_nobody_declares_comes_back_to_who_asked(house: Build) -> None:
    rounds = in_turn(act("missing_capability", needed="qqqq"), act("finish", answer="I can't."))
    async with house({"act": rounds}) as home:
        end = await home.run("Keep it somewhere", expert="memo")
        assert (end.status, end.output, end.metadata.steps[0].expert) == ("completed", "I can't.", "memo")
        assert home.model
        assert "nobody can qqqq" in home.model.asked[-1].user
