"""Steps that wait for people, go to others, or are planned again: their run goes on, and ends once."""

import pytest
from msgspec.structs import replace

from consumers.runs.moves import HANDOFFS, REVISIONS
from schemas.errors import ErrorInfo
from schemas.events import (
    CancelRequested,
    DeadlinePassed,
    DeadlineSet,
    QuestionAnswered,
    QuestionAsked,
    ReplanRequested,
    RunProgressed,
    StageFailed,
    StepReady,
)
from schemas.plan import Done, Progress, Step
from tests.consumers.events import after
from tests.consumers.runs import Run, asks, ended, hands, proposed, step

ANSWER = QuestionAnswered(question_id="q", answer="The second.")
OVER = ErrorInfo("budget.tokens", "The run may use 100 tokens.", "Give it more.")
NO_PLAN = StageFailed(stage="plan", error=ErrorInfo("stage.timeout", "Too slow."))


@pytest.fixture
def run() -> Run:
    return Run()


# Questions


def test_a_step_that_asks_waits_and_gives_its_place_to_another_one(run: Run) -> None:
    run(proposed(*map(step, "1234")))
    said = run(asks("1"))
    assert run.status == {"1": "waiting", "2": "running", "3": "running", "4": "running"}
    assert said[0] == RunProgressed(
        kind="question", stage="aggregate", step_id="1", status="waiting", text="Which one?", question_id="q"
    )
    assert run.deadlines == [DeadlineSet(at=after(500), question_id="q")]
    assert not run.ends


def test_an_answer_lets_a_step_go_on_where_it_stopped(run: Run) -> None:
    run(proposed(step("1")), asks("1"))
    (ready,) = run(ANSWER)
    assert isinstance(ready, StepReady)
    assert (ready.progress, ready.reply) == (asks("1").progress, "The second.")
    assert ready.project == "shop"
    run(ended("1"))
    (summary,) = run.end.metadata.steps
    assert (summary.status, summary.usage.calls, run.end.status) == ("ok", 2, "completed")


def test_a_run_whose_steps_all_wait_does_not_end_and_starts_nothing(run: Run) -> None:
    run(proposed(step("1"), step("2", "1")), asks("1"))
    assert run.running == []
    assert run(ended("2"), ended("1")) == [], "nobody works at them"
    assert not run.ends


def test_a_step_that_may_go_on_waits_for_a_place_like_any_other(run: Run) -> None:
    run(proposed(*map(step, "1234")), asks("1"))
    assert run(ANSWER) == []
    assert (run["1"].status, run["1"].reply) == ("pending", "The second.")
    assert [event.reply for event in run(ended("3")) if isinstance(event, StepReady)] == ["The second."]


@pytest.mark.parametrize(
    "late", [ANSWER, DeadlinePassed(question_id="q")], ids=["answered twice", "its time over later"]
)
def test_a_question_is_answered_once(run: Run, late: QuestionAnswered | DeadlinePassed) -> None:
    run(proposed(step("1")), asks("1"), ANSWER)
    assert run(late) == []
    run(asks("1", "q2"))
    assert run(late) == []
    assert run.waiting == ["1"]


def test_a_question_whose_time_is_over_lets_its_step_go_on_without_an_answer(run: Run) -> None:
    run(proposed(step("1")), asks("1"))
    (ready,) = run(DeadlinePassed(question_id="q"))
    assert isinstance(ready, StepReady)
    assert (ready.progress, ready.reply) == (asks("1").progress, "")
    assert run(ANSWER) == [], "too late"


def test_who_is_asked_nothing_cannot_answer(run: Run) -> None:
    run(proposed(step("1")))
    before = run.state
    assert run(ANSWER, DeadlinePassed(question_id="q")) == []
    assert run.state == before


@pytest.mark.parametrize("id_", ["2", "ghost"])
def test_only_a_step_that_runs_can_ask(run: Run, id_: str) -> None:
    run(proposed(step("1"), step("2", "1")))
    assert run(asks(id_)) == []
    assert run.waiting == []


def test_a_run_that_is_cancelled_asks_no_more(run: Run) -> None:
    run(proposed(step("1"), step("2", "1")), asks("1"), CancelRequested())
    assert run.status == {"1": "skipped", "2": "skipped"}
    assert run(ANSWER) == []
    assert run.end.status == "cancelled"


def test_two_steps_can_ask_and_each_gets_its_own_answer(run: Run) -> None:
    run(proposed(step("1"), step("2")), asks("1", "q1"), asks("2", "q2"))
    run(QuestionAnswered(question_id="q2", answer="b"), QuestionAnswered(question_id="q1", answer="a"))
    assert [(ready.step.id, ready.reply) for ready in run.released[2:]] == [("2", "b"), ("1", "a")]


# Handing a step over


def test_a_step_that_is_handed_over_goes_on_at_the_other_expert_with_what_was_seen(run: Run) -> None:
    run(proposed(step("1", expert="memo")))
    progress, ready = run(hands("1", "schedule"))
    assert isinstance(ready, StepReady)
    assert (ready.step.expert, ready.progress) == ("schedule", Progress(observations=("saw a",)))
    text = "memo → schedule: calendar"
    assert progress == RunProgressed(kind="handoff", stage="aggregate", step_id="1", text=text)
    run(ended("1"))
    (summary,) = run.end.metadata.steps
    assert (summary.expert, summary.usage.calls) == ("schedule", 2)


def test_a_circle_of_handoffs_ends_and_says_which_way_it_went(run: Run) -> None:
    run(proposed(step("1", expert="memo"), step("2", "1")), hands("1", "schedule"), hands("1", "memo"))
    assert run.status == {"1": "failed", "2": "blocked"}
    assert run.end.error
    assert (run.end.status, run.end.error.code) == ("failed", "handoff.circle")
    assert "memo → schedule → memo" in run.end.output
    assert "'calendar'" in run.end.output


def test_a_step_goes_through_so_many_experts_and_no_more(run: Run) -> None:
    run(proposed(step("1", expert="0")))
    for number in ("1", "2", "3"):
        run(hands("1", number))
        assert run["1"].status == "running"
    run(hands("1", "4"))
    assert HANDOFFS == 4
    assert run.end.error
    assert run.end.error.code == "handoff.circle"


def test_a_step_that_nobody_can_do_goes_to_nobody_in_particular_once(run: Run) -> None:
    run(proposed(step("1", expert="memo")), hands("1", ""))
    assert run.released[-1].step.expert == ""
    run(hands("1", ""))
    assert run.end.status == "failed"


@pytest.mark.parametrize("id_", ["2", "ghost"])
def test_only_a_step_that_runs_can_be_handed_over(run: Run, id_: str) -> None:
    run(proposed(step("1"), step("2", "1")))
    before = run.state
    assert run(hands(id_, "schedule")) == []
    assert run.state == before


# A step of another agent


def test_a_step_of_an_agent_goes_there_and_its_answer_names_it(run: Run) -> None:
    run(proposed(step("1"), step("2", "1", agent="veronica", expert="devops")), ended("1"))
    (request,) = run.delegated
    assert (request.step.id, request.goal, request.project, request.inputs) == ("2", "Do all.", "shop", {"1": "out 1"})
    run(replace(ended("2", agent="veronica"), source="agent"))
    assert (run.end.metadata.delegated_to, run.end.metadata.source) == ("veronica", "agent")


def test_what_an_agent_does_not_do_is_done_here_and_noted(run: Run) -> None:
    run(proposed(step("1", agent="veronica", expert="devops")))
    lost = ErrorInfo("delegation.lost", "veronica went away in mid-work.")
    run(ended("1", "failed", "half a word", lost, agent="veronica"))
    (ready,) = run.released
    assert (ready.step.agent, ready.step.expert, ready.progress) == ("", "devops", None)
    run(ended("1", output="done here"))
    assert (run.end.status, run.end.output, run.end.error) == ("completed", "done here", None)
    assert run.end.metadata.delegated_to is None
    assert run.end.metadata.notes == (
        "Step '1' was not done by veronica, so it was done here: veronica went away in mid-work.",
    )
    (summary,) = run.end.metadata.steps
    assert (summary.agent, summary.usage.calls) == ("", 2)


def test_what_an_agent_did_not_do_and_cannot_be_done_here_has_failed(run: Run) -> None:
    run(proposed(step("1", agent="veronica")), ended("1", "failed"), ended("1", "failed"))
    assert run.end.status == "failed"
    assert len(run.delegated) == len(run.released) == 1


# Planning again


def test_a_step_that_fails_has_what_is_left_planned_again_and_what_is_done_stays(run: Run) -> None:
    run(proposed(step("1"), step("2"), step("3", "1"), step("4", "2"), revisable=True), ended("2"))
    run(ended("1", "failed", error=ErrorInfo("tool.unknown", "No.")))
    (asked,) = run.replans
    assert asked == ReplanRequested(
        restated="Do all.",
        revision=1,
        why="Step '1' failed: No.",
        done=(Done(step("1"), "failed", "out 1", "No."), Done(step("2"), "ok", "out 2")),
        left=(step("3", "1"),),
        strategy="react",
        project="shop",
    )
    assert run.status == {"1": "failed", "2": "ok", "3": "pending", "4": "running"}
    run(ended("4"))
    assert not run.ends, "what is left is planned now"
    run(proposed(step("5", "2"), revision=1))
    assert run.released[-1].inputs == {"2": "out 2"}
    run(ended("5"))
    assert [(each.id, each.status) for each in run.end.metadata.steps] == [
        ("1", "failed"),
        ("2", "ok"),
        ("4", "ok"),
        ("5", "ok"),
    ]
    assert run.end.status == "completed"


def test_an_answer_of_the_users_has_what_is_left_planned_again(run: Run) -> None:
    run(proposed(step("1"), step("2", "1"), revisable=True), asks("1"), ANSWER)
    (asked,) = run.replans
    assert asked.left == (step("2", "1"),)
    assert "'Which one?'" in asked.why
    assert "'The second.'" in asked.why
    assert run.released[-1].reply == "The second.", "the step that asked goes on meanwhile"
    run(ended("1"))
    run(proposed(step("3", "1"), revision=1))
    assert run.released[-1].step.id == "3"


@pytest.mark.parametrize(
    ("steps", "question"),
    [((step("1"),), asks("1")), ((step("1"), step("2", "1")), asks("1", approval=True))],
    ids=["nothing is left", "it was only asked whether a tool may be used"],
)
def test_an_answer_that_changes_nothing_plans_nothing_again(
    run: Run, steps: tuple[Step, ...], question: QuestionAsked
) -> None:
    run(proposed(*steps, revisable=True), question, ANSWER)
    assert run.replans == []
    assert run.running == ["1"]


def test_a_plan_is_changed_three_times_at_most(run: Run) -> None:
    run(proposed(step("0"), step("left", "0"), revisable=True))
    for number in range(REVISIONS):
        run(ended(str(number), "failed"))
        assert run.replans[-1].revision == number + 1
        run(proposed(step(str(number + 1)), revision=number + 1))
    run(ended(str(REVISIONS), "failed"))
    assert len(run.replans) == REVISIONS
    assert run.end.status == "failed"


def test_while_it_is_planned_again_nothing_new_begins_and_a_second_failure_asks_no_second_time(run: Run) -> None:
    run(
        proposed(step("1"), step("2"), step("3", "2"), step("4", "1"), revisable=True), ended("1", "failed"), ended("2")
    )
    assert (run.running, run.status["3"]) == ([], "pending")
    run(proposed(step("5"), step("6"), revision=1), ended("5", "failed"), ended("6", "failed"))
    assert [asked.revision for asked in run.replans] == [1, 2]


def test_what_fails_while_it_is_planned_again_is_looked_at_in_one_further_plan(run: Run) -> None:
    run(proposed(step("1"), step("2"), step("3"), step("4", "1"), revisable=True), ended("1", "failed"))
    run(ended("2", "failed"), ended("3", "failed"))
    run(proposed(step("5"), revision=1))
    assert [asked.revision for asked in run.replans] == [1, 2]
    assert "'2'" in run.replans[-1].why
    assert "'3'" in run.replans[-1].why
    assert run.status["5"] == "pending", "the plan it is of was made without knowing"
    assert run.replans[-1].left == (step("5"),)
    run(NO_PLAN)
    assert run.running == ["5"]
    run(ended("5"))
    assert run.end.status == "completed"


@pytest.mark.parametrize("revision", [0, 2, 7])
def test_a_plan_that_nobody_asked_for_changes_nothing(run: Run, revision: int) -> None:
    run(proposed(step("1"), step("2", "1"), revisable=True), ended("1", "failed"))
    before = run.state
    assert run(proposed(step("9"), revision=revision)) == []
    assert run.state == before
    run(proposed(step("5"), revision=1))
    assert run(proposed(step("9"), revision=1)) == [], "nor does it twice"


def test_new_steps_with_the_names_of_old_ones_get_others(run: Run) -> None:
    run(proposed(step("1"), step("2", "1"), revisable=True), ended("1", "failed"))
    run(proposed(step("1"), step("2", "1"), revision=1))
    assert run.status == {"1": "failed", "1.1": "running", "2": "pending"}
    run(ended("1.1"))
    assert run.released[-1].inputs == {"1.1": "out 1.1"}


def test_where_nothing_is_planned_again_the_run_ends_with_what_there_is(run: Run) -> None:
    run(proposed(step("1"), step("2"), step("3", "1"), revisable=True), ended("2"), ended("1", "failed"), NO_PLAN)
    assert run.status == {"1": "failed", "2": "ok", "3": "blocked"}
    assert run.end.status == "completed"
    assert "It was not planned again: Too slow." in run.end.metadata.notes


def test_a_new_plan_without_steps_ends_the_run(run: Run) -> None:
    run(proposed(step("1"), step("2", "1"), revisable=True), ended("1", "failed"), proposed(revision=1))
    assert run.end.status == "failed"


# What makes the rest needless


def test_once_enough_votes_agree_the_others_are_skipped(run: Run) -> None:
    run(proposed(*(step(id_, how="vote") for id_ in "12345"), quorum=2), ended("1", output="Paris"))
    assert run.running == ["2"], "one more may be enough"
    run(ended("2", output="Rome"))
    assert run.running == ["3"]
    run(ended("3", output="paris."))
    assert run.status == {"1": "ok", "2": "ok", "3": "ok", "4": "skipped", "5": "skipped"}
    assert (run.end.output, run.end.status) == ("Paris", "completed")
    assert "2 of 3 votes agree; 2 of 5 voters were not heard." in run.end.metadata.notes[0]
    assert run(ended("4", output="late")) == []


def test_voters_whom_no_model_answered_do_not_agree_with_each_other(run: Run) -> None:
    none = "No model answered."
    run(proposed(*(step(id_, how="vote") for id_ in "123"), quorum=2))
    run(ended("1", "partial", output=none), ended("2", "partial", output=none))
    assert run.running == ["3"]
    run(ended("3", output="Paris"))
    assert run.end.output == "Paris"
    assert "1 of 1 votes agree; 2 of 3 voters were not heard." in run.end.metadata.notes[0]


def test_where_no_model_answered_any_voter_that_is_said_once(run: Run) -> None:
    run(proposed(*(step(id_, how="vote") for id_ in "123"), quorum=2))
    run(*(ended(id_, "partial", output="No model answered.") for id_ in "123"))
    assert (run.end.output, run.end.status) == ("No model answered.", "completed")


def test_a_step_that_settles_the_run_is_its_answer_and_all_others_are_skipped(run: Run) -> None:
    run(proposed(step("1"), step("2"), step("3", "2")), asks("2"), ended("1", output="It.", settles=True))
    assert run.status == {"1": "ok", "2": "skipped", "3": "skipped"}
    assert (run.end.output, run.end.status) == ("It.", "completed")


def test_a_step_that_failed_settles_nothing(run: Run) -> None:
    run(proposed(step("1"), step("2")), ended("1", "failed", settles=True))
    assert run.running == ["2"]


# One of several inputs


def test_a_step_that_needs_any_of_its_inputs_begins_once_all_have_ended_with_those_that_went_well(run: Run) -> None:
    run(proposed(step("1"), step("2"), step("3", "1", "2", any_input=True)), ended("1", "failed"))
    assert run.status["3"] == "pending"
    run(ended("2"))
    assert run.released[-1].inputs == {"2": "out 2"}


def test_a_step_none_of_whose_inputs_went_well_is_blocked(run: Run) -> None:
    run(proposed(step("1"), step("2"), step("3", "1", "2", any_input=True)), ended("1", "failed"), ended("2", "failed"))
    assert run.status["3"] == "blocked"


# Limits


def test_at_a_limit_nothing_new_begins_what_runs_may_end_and_the_answer_is_what_there_is(run: Run) -> None:
    run(proposed(*map(step, "12345"), aggregate=True), asks("3"), ended("1"), ended("2", "failed", error=OVER))
    assert run.status == {"1": "ok", "2": "failed", "3": "skipped", "4": "running", "5": "running"}
    run(ended("4"), ended("5", "failed", error=OVER))
    assert (run.end.status, run.end.error) == ("completed", OVER)
    assert "out 1" in run.end.output
    assert "out 4" in run.end.output


def test_a_run_that_a_limit_stopped_with_nothing_done_fails_and_says_so(run: Run) -> None:
    run(proposed(step("1"), step("2", "1"), revisable=True), ended("1", "failed", error=OVER))
    assert (run.end.status, run.end.error) == ("failed", OVER)
    assert run.end.output == "The run may use 100 tokens. Give it more."
    assert run.replans == [], "planning costs tokens too"


def test_a_partial_answer_that_a_limit_cut_counts_and_stops_the_run(run: Run) -> None:
    run(proposed(step("1"), step("2", "1")), ended("1", "partial", "half", OVER))
    assert run.status == {"1": "partial", "2": "skipped"}
    assert (run.end.status, run.end.output, run.end.error) == ("completed", "half", OVER)


def test_the_deadline_ends_a_run_at_once_with_what_is_done(run: Run) -> None:
    run(proposed(*map(step, "123")), ended("1"), asks("2"), DeadlinePassed())
    assert run.status == {"1": "ok", "2": "skipped", "3": "skipped"}
    assert run.end.error
    assert (run.end.status, run.end.output, run.end.error.code) == ("completed", "out 1", "budget.deadline")


def test_a_deadline_before_anything_is_done_fails_the_run(run: Run) -> None:
    run(DeadlinePassed())
    assert run.end.error
    assert (run.end.status, run.end.error.code) == ("failed", "budget.deadline")
    assert run(proposed(step("1"))) == []


def test_what_is_to_be_known_of_how_a_step_was_done_is_among_the_runs_notes(run: Run) -> None:
    run(proposed(step("1")), ended("1", note="It took long. " * 100))
    (note,) = run.end.metadata.notes
    assert note.startswith("It took long.")
    assert len(note) == 500
