"""A. Ways in: the HTTP door takes goals, says where they stand, what there is, and what is missing."""

from pathlib import Path

import pytest

from schemas.events import QuestionAsked
from schemas.plan import ToolCall
from tests.gateway.indoors import ended, indoors
from tests.rows.conftest import Build
from tests.rows.given import planned, step, strategy_in
from tests.rows.house import decomposition, finish, in_turn
from tests.rows.house import step as proposed
from tests.workshop import eventually

GOAL, ANSWER = "Read docs/beta.txt", "This is beta.\n"
UNDERSTOOD = {"restated": "What does the data say, in all its parts?", "category": "multi_step", "first_step": ""}


@pytest.fixture(autouse=True)
def _given(tmp_path: Path) -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    strategy_in(tmp_path / "project-strategies_dir")


# A1, A2


async def test_A1_a_goal_is_taken_at_once_and_its_status_has_the_answer_or_the_answer_is_waited_for(
    house: Build,
) -> None:
    async with house() as home, indoors(home.victoria) as client:
        taken = await client.post("/run", json={"goal": GOAL})
        assert taken.status_code == 202
        assert taken.json().keys() == {"task_id", "status_url"}
        found = await ended(client, taken.json()["status_url"])
        assert (found["status"], found["output"], found["waiting"]) == ("completed", ANSWER, None)
        done = await client.post("/run", json={"goal": GOAL, "async_mode": 0})
        assert (done.status_code, done.json()["status"], done.json()["output"]) == (200, "success", ANSWER)
        said = done.json()["knowledge"]
        assert said.keys() >= {"method", "model", "source", "delegated_to", "task_id"}
        assert said["method"] == found["knowledge"]["method"] == "rules"


async def test_A2_orchestrate_is_run_through_the_departments_unless_another_strategy_is_wanted(house: Build) -> None:
    plan = decomposition(proposed("1", "Look.", "data_analyst"), proposed("2", "Judge.", "data_analyst", "1"))
    says = {"understand": UNDERSTOOD, "decompose": plan, "act": finish("It rises."), "answer": "It rises."}
    body = {"goal": "Помоги с анализом данных", "async_mode": False}
    async with house({**says, "fuse": "It rises."}) as home, indoors(home.victoria) as client:
        done = (await client.post("/orchestrate", json=body)).raise_for_status().json()
        assert (done["status"], done["output"]) == ("success", "It rises.")
        assert done["knowledge"]["method"] == "department_heads"
        simple = (await client.post("/orchestrate", json={**body, "strategy": "simple"})).json()
        assert simple["knowledge"]["method"] == "simple"
        taken = await client.post("/orchestrate", json={**body, "async_mode": True})
        assert taken.status_code == 202
        found = await ended(client, taken.headers["location"])
        assert (found["status"], found["knowledge"]["method"]) == ("completed", "department_heads")


# A3


async def test_A3_status_tells_levels_versions_stages_with_their_lag_and_models(house: Build) -> None:
    async with house({}, enable_event_monitoring="true", backlog="7") as home, indoors(home.victoria) as client:
        told = (await client.get("/status")).json()
        assert told["victoria_levels"] == {"agent": True, "enhanced": True, "initiative": True}
        assert told.keys() >= {"version", "python", "server", "load"}
        assert told["backlog"] == {"waiting": 0, "limit": 7}
        assert {stage["name"]: stage["workers"] for stage in told["stages"]} == {
            name: 1 for name in await home.victoria.needed() if not name.endswith(".background")
        }
        assert {(stage["lag"], stage["pending"]) for stage in told["stages"]} == {(0, 0)}
        (model,) = told["models"]
        assert (model["name"], model["backend"], model["slots"]) == ("scripted", "local", 8)
    async with house(use_victoria_enhanced="false") as home, indoors(home.victoria) as client:
        assert (await client.get("/status")).json()["victoria_levels"]["enhanced"] is False


# A4


async def test_A4_an_unknown_project_is_replaced_by_the_main_one(house: Build) -> None:
    async with house(allowed_projects="other") as home, indoors(home.victoria) as client:
        for named, meant in (("other", "other"), ("nobody-knows-it", "project"), ("", "project"), (None, "project")):
            taken = await client.post("/run", json={"goal": GOAL, "project_context": named})
            submitted = await home.victoria.goal_of(taken.json()["task_id"])
            assert submitted.project == meant


# D5, F5, over HTTP


async def test_D5_a_question_is_listed_with_its_run_and_the_answer_lets_it_go_on(house: Build) -> None:
    ask = {"tool": "ask_user", "thought": "", "question": "Which page?", "choices": ["X", "Y"]}
    async with house({"act": in_turn(ask, finish("Page X then."))}) as home, indoors(home.victoria) as client:
        run = await planned(home, step("1", how="react"))
        question_id = (await home.said(run, QuestionAsked)).question_id
        await eventually(lambda: home.waits(run))
        (listed,) = (await client.get("/questions")).json()["questions"]
        assert (listed["question_id"], listed["task_id"], listed["step_id"]) == (question_id, run, "1")
        found = (await client.get(f"/run/status/{run}")).json()
        assert (found["status"], found["waiting"]["stage"]) == ("waiting", "step-execute")
        assert found["waiting"]["question"] == {"id": question_id, "question": "Which page?", "choices": ["X", "Y"]}

        page = f"/questions/{question_id}/answer"
        for body, status, code in (
            ({}, 400, "http.invalid"),
            ({"answer": " "}, 400, "answer.empty"),
            ({"answer": "x" * 16_001}, 413, "answer.too_large"),
        ):
            refused = await client.post(page, json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
        for unknown in (f"{run}.0123456789ab", "no-such-run.0123456789ab", "%3F%00%FF"):
            refused = await client.post(f"/questions/{unknown}/answer", json={"answer": "X"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "question.unknown")
        answered = await client.post(page, json={"answer": "x"})
        assert (answered.status_code, answered.json()) == (
            200,
            {"question_id": question_id, "task_id": run, "step_id": "1"},
        )
        assert (await ended(client, f"/run/status/{run}"))["output"] == "Page X then."
        again = await client.post(page, json={"answer": "Y"})
        assert (again.status_code, again.json()["error"]["code"]) == (409, "question.closed")
        assert (await client.get("/questions")).json() == {"questions": [], "more": False}


async def test_F5_cancelling_closes_the_questions_of_a_run(house: Build) -> None:
    async with house({}) as home, indoors(home.victoria) as client:
        run = await planned(home, step("1", how="tool", call=ToolCall("ask_user", {"question": "Which one?"})))
        question_id = (await home.said(run, QuestionAsked)).question_id
        await eventually(lambda: home.waits(run))
        cancelled = await client.post(f"/run/{run}/cancel")
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
        refused = await client.post(f"/questions/{question_id}/answer", json={"answer": "X"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "question.closed")
