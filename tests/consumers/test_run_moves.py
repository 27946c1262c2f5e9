"""A run moves on by events in any order, twice or too late, and ends exactly once with every step accounted for."""

from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers import aggregate
from consumers.runs.state import UNLOCKS, RunState
from schemas.errors import ErrorInfo
from schemas.events import CancelRequested, RunFinished, RunProgressed, StageFailed, StepReady
from schemas.plan import Step, StepStatus, Usage
from streams.testing import ScriptedContext
from tests.consumers.events import unlisted
from tests.consumers.runs import FINAL, Run, ended, proposed, step

FAILED = StageFailed(stage="plan", error=ErrorInfo("stage.timeout", "Too slow."))


@st.composite
def plans(draw: st.DrawFn) -> tuple[Step, ...]:
    """Acyclic plans of up to 20 steps, from chains to crowds, in any order."""
    count = draw(st.integers(1, 20))
    ids = [str(n) for n in range(count)]
    most = draw(st.sampled_from([0, 1, 3, 20]))
    steps = [
        step(id_, *draw(st.lists(st.sampled_from(ids[:n]), max_size=most, unique=True) if n else st.just([])))
        for n, id_ in enumerate(ids)
    ]
    return tuple(draw(st.permutations(steps)))


OUTCOMES: st.SearchStrategy[StepStatus] = st.sampled_from(["ok", "ok", "partial", "failed", "skipped", "blocked"])


@settings(deadline=None)
@given(plans(), st.data())
def test_any_plan_with_any_outcomes_in_any_order_ends_once_with_every_step_final(
    steps: tuple[Step, ...], data: st.DataObject
) -> None:
    run = Run()
    run(proposed(*steps))
    needs = {s.id: s.depends_on for s in steps}
    while not run.ends:
        assert 0 < len(run.running) <= 3
        assert all(run.status[other] in UNLOCKS for id_ in run.running for other in needs[id_])
        noise = data.draw(st.sampled_from(["", "", "unknown", "late", "early", "plan"]))
        if noise:
            before, others = run.state, [id_ for id_ in needs if id_ not in run.running]
            if noise == "unknown" or (noise != "plan" and not others):
                stray = ended("no such step")
            elif noise == "plan":
                stray = proposed(step("other"))
            else:
                stray = ended(data.draw(st.sampled_from(others)), data.draw(OUTCOMES), "not yours to say")
            assert run(stray) == []
            assert run.state == before
        run(ended(data.draw(st.sampled_from(run.running)), data.draw(OUTCOMES)))
    assert len(run.ends) == 1
    assert set(run.status.values()) <= FINAL
    ran = [ready.step.id for ready in run.released]
    assert len(ran) == len(set(ran)), "no step runs twice"
    for id_, other in needs.items():
        assert (id_ in ran) == all(run.status[one] in UNLOCKS for one in other)
    (end,) = run.ends
    assert (end.status == "completed") == any(status in UNLOCKS for status in run.status.values())
    assert [(s.id, s.status) for s in end.metadata.steps] == [(s.id, run.status[s.id]) for s in steps]
    assert sorted(e.step_id for e in run.progress if e.kind == "task_end") == sorted(needs)
    for event in (FAILED, proposed(*steps), *(ended(id_) for id_ in needs)):
        assert run(event) == []
    assert len(run.ends) == 1


@settings(deadline=None)
@given(plans(), st.integers(0, 20), st.data())
def test_a_stage_that_fails_at_any_point_ends_the_run_once_and_keeps_what_is_done(
    steps: tuple[Step, ...], point: int, data: st.DataObject
) -> None:
    run = Run()
    run(proposed(*steps))
    for _ in range(point):
        if not run.ends:
            run(ended(data.draw(st.sampled_from(run.running)), data.draw(OUTCOMES)))
    early = not run.ends
    run(FAILED)
    for id_ in list(run.status):
        run(ended(id_))
    (end,) = run.ends
    assert {s.status for s in end.metadata.steps} <= FINAL
    if early:
        assert (end.status, end.error) == ("failed", FAILED.error)
        done = [s.id for s in steps if run.status[s.id] in UNLOCKS]
        assert all(f"out {id_}" in end.output for id_ in done)
        assert end.output


def test_a_stage_that_fails_before_there_is_a_plan_ends_the_run_with_its_error() -> None:
    run = Run()
    (end,) = run(FAILED)
    assert isinstance(end, RunFinished)
    assert (end.status, end.error, end.output) == ("failed", FAILED.error, "Too slow.")
    assert run(proposed(step("1"))) == []


def test_a_wide_plan_of_20_runs_3_at_a_time_and_refills_each_free_place_in_plan_order() -> None:
    run, ids = Run(), [str(n) for n in range(20)]
    run(proposed(*map(step, ids)))
    assert run.running == ids[:3]
    for number in range(17):
        run(ended(ids[number + 1 if number % 2 == 0 else number - 1]))
        assert len(run.released) == min(20, number + 4)
        assert len(run.running) == 3
    assert [ready.step.id for ready in run.released] == ids


def test_a_deep_plan_of_20_hands_each_output_to_the_next_step() -> None:
    run = Run()
    run(proposed(step("0"), *(step(str(n), str(n - 1)) for n in range(1, 20))))
    for number in range(20):
        assert run.running == [str(number)]
        assert run.released[-1].inputs == ({str(number - 1): f"out {number - 1}"} if number else {})
        run(ended(str(number), "partial" if number % 2 else "ok"))
    assert [end.status for end in run.ends] == ["completed"]


def test_a_released_step_carries_the_goal_and_the_project_of_its_run() -> None:
    ready, progress = Run()(proposed(step("1")))[:2]
    assert ready == StepReady(step=step("1"), goal="Do all.", project="shop")
    assert progress == RunProgressed(kind="task_start", stage="aggregate", step_id="1", text="title 1")


def test_a_failed_step_blocks_all_that_need_it_and_each_says_why() -> None:
    run = Run()
    run(proposed(step("1"), step("2"), step("3", "2", "1"), step("4", "3")))
    run(ended("1", "failed", error=ErrorInfo("tool.unknown", "No.")))
    assert run.status == {"1": "failed", "2": "running", "3": "blocked", "4": "blocked"}
    reasons = [s.error.message for s in run.state.steps.values() if s.error]
    assert reasons == ["No.", "It needs step '1', which ended as failed.", "It needs step '3', which ended as blocked."]
    assert [(e.step_id, e.status) for e in run.progress if e.kind == "task_end"] == [
        ("1", "failed"),
        ("3", "blocked"),
        ("4", "blocked"),
    ]
    run(ended("2"))
    assert [(end.status, end.output) for end in run.ends] == [("completed", "out 2")]


def test_a_run_in_which_nothing_succeeds_fails_with_the_first_error() -> None:
    run, error = Run(), ErrorInfo("path.missing", "It does not exist.", "List the folder.")
    run(proposed(step("1"), step("2", "1")), ended("1", "failed", error=error))
    (end,) = run.ends
    assert (end.status, end.error) == ("failed", error)
    assert end.output == "It does not exist. List the folder."


@pytest.mark.parametrize(
    ("notes", "why"), [((), "The plan has no steps."), (("No expert.", "None."), "No expert.; None.")]
)
def test_an_empty_plan_fails_at_once_and_says_why(notes: tuple[str, ...], why: str) -> None:
    run = Run()
    run(proposed(notes=notes))
    (end,) = run.ends
    assert end.error
    assert (end.status, end.error.code, end.error.message) == ("failed", "plan.empty", why)
    assert why in end.output


@pytest.mark.parametrize("status", ["pending", "running", "waiting"])
def test_an_end_that_is_none_counts_as_failed_and_cannot_hold_up_its_run(
    status: Literal["pending", "running", "waiting"],
) -> None:
    run = Run()
    run(proposed(step("1")), ended("1", status))
    (end,) = run.ends
    assert end.error
    assert (end.status, end.error.code) == ("failed", "step.status")


def test_a_plan_that_somebody_wrote_with_a_circle_still_runs_to_its_end() -> None:
    run = Run()
    run(proposed(step("1", "2"), step("2", "1"), step("2", "ghost")), ended("2"), ended("1"))
    (end,) = run.ends
    assert (end.status, len(end.metadata.notes)) == ("completed", 2)


def test_a_step_that_ends_before_its_plan_came_is_not_counted() -> None:
    run = Run()
    assert run(ended("1")) == []
    run(proposed(step("1")))
    assert run.running == ["1"]


def test_the_end_says_what_each_stage_took_and_cost() -> None:
    run = Run()
    run(proposed(step("1"), step("2", "1")), ended("1"), ended("2", "failed"))
    (end,) = run.ends
    assert [(s.stage, s.seconds, s.events) for s in end.stages[:3]] == [
        ("understand", 1.0, 1),
        ("plan", 2.0, 1),
        ("step-execute", 2.0 + 3.0, 2),
    ]
    assert [s.stage for s in end.stages] == ["understand", "plan", "step-execute", "aggregate"]
    assert end.stages[2].usage == Usage("big", 2, 20, 40, 0.5)
    assert (end.metadata.tokens_in, end.metadata.tokens_out, end.metadata.seconds) == (25, 46, 5.0)


def test_a_cancelled_run_ends_at_once_with_what_was_done_and_what_comes_late_changes_nothing() -> None:
    run = Run()
    run(proposed(step("1"), step("2"), step("3", "1")), ended("1"))
    run(CancelRequested(reason="Enough."))
    (end,) = run.ends
    assert end.error
    assert (end.status, end.error.code, end.error.message) == ("cancelled", "run.cancelled", "Enough.")
    assert [each.status for each in end.metadata.steps] == ["ok", "skipped", "skipped"]
    assert run(ended("2"), CancelRequested()) == []


def test_a_run_can_be_cancelled_before_its_plan_comes() -> None:
    run = Run()
    run(CancelRequested())
    assert run(proposed(step("1"))) == []
    assert [end.status for end in run.ends] == ["cancelled"]


async def test_a_run_whose_own_event_is_given_up_ends_as_failed() -> None:
    stage, error = aggregate.stage(unlisted), ErrorInfo("stage.error", "Boom.")
    assert stage.on_dead
    said = StageFailed(stage="aggregate", error=error)
    ctx = ScriptedContext(RunState())
    assert await stage.on_dead(proposed(), error, ctx) == await stage.on_dead(ended("1"), error, ctx) == [said]
    assert await stage.on_dead(said, error, ctx) == [], "no circle"
    assert isinstance(said, stage.emits)
