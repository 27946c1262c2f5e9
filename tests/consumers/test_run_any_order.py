"""Whatever its steps ask, hand over, fail at or have planned again, a run ends once."""

from collections.abc import Iterator

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers.runs.moves import REVISIONS, AggregateEvent
from consumers.runs.state import OPEN, UNLOCKS, is_over
from schemas.errors import ErrorInfo
from schemas.events import (
    CancelRequested,
    DeadlinePassed,
    PlanProposed,
    QuestionAnswered,
    StageFailed,
    StepReady,
)
from schemas.plan import Plan, Step, StepStatus
from tests.consumers.runs import FINAL, Run, asks, ended, hands, step

NO_PLAN = StageFailed(stage="plan", error=ErrorInfo("stage.timeout", "Too slow."))

IDS = tuple(str(n) for n in range(12))
OUTCOMES: st.SearchStrategy[StepStatus] = st.sampled_from(["ok", "ok", "partial", "failed", "skipped", "waiting"])
EXPERTS = st.sampled_from(["", "memo", "schedule", "devops", "frontend"])


@st.composite
def wild_steps(draw: st.DrawFn, most: int = 12) -> tuple[Step, ...]:
    """Steps as a bad model proposes them: ids twice, circles, needs that nobody is, needs of any number."""
    few = draw(st.sampled_from([0, 2, 12]))
    return tuple(
        step(
            draw(st.sampled_from(IDS)),
            *draw(st.lists(st.sampled_from((*IDS, "ghost")), max_size=few)),
            any_input=draw(st.booleans()),
            expert=draw(EXPERTS),
            agent=draw(st.sampled_from(["", "", "", "veronica"])),
            how=draw(st.sampled_from(["answer", "react", "vote"])),
        )
        for _ in range(draw(st.integers(0, most)))
    )


@st.composite
def wild_plans(draw: st.DrawFn) -> PlanProposed:
    plan = Plan("react", draw(wild_steps()), quorum=draw(st.sampled_from([0, 0, 2])), revisable=draw(st.booleans()))
    return PlanProposed(restated="Do all.", plan=plan)


class Driver:
    """Does to a run what its stages and people could do, as hypothesis draws it; questions come to an end some day."""

    def __init__(self, run: Run, data: st.DataObject) -> None:
        self.run, self.data, self.questions = run, data, 0

    def step(self) -> None:
        """One of the things that could come next."""
        kind, about = self.data.draw(st.sampled_from(list(self.ways())))
        event = self.event(kind, about)
        self.questions += kind == "asks"
        self.run(event)

    def ways(self) -> Iterator[tuple[str, str]]:
        """What could come, and of which step or question."""
        run = self.run
        for id_ in run.running:
            yield "ends", id_
            yield "hands over", id_
            if self.questions < 8:
                yield "asks", id_
        for asking in (run[id_].asking for id_ in run.waiting):
            if asking:
                yield "is answered", asking.id
                yield "is not answered", asking.id
        if run.state.replanning:
            yield "is planned again", ""
            yield "is not planned again", ""
        yield "ends", "ghost"
        yield "is answered", "q0"

    def event(self, kind: str, about: str) -> AggregateEvent:
        """It, as drawn."""
        draw = self.data.draw
        match kind:
            case "ends":
                return ended(about, draw(OUTCOMES), draw(st.sampled_from(["", "Paris", "Rome"])))
            case "hands over":
                return hands(about, draw(EXPERTS))
            case "asks":
                return asks(about, f"q{self.questions}")
            case "is answered":
                return QuestionAnswered(question_id=about, answer="yes")
            case "is not answered":
                return DeadlinePassed(question_id=about)
            case "is planned again":
                plan = Plan("x", draw(wild_steps(5)))
                return PlanProposed(restated="", plan=plan, revision=self.run.state.revision)
            case _:
                return NO_PLAN


def in_order(run: Run) -> bool:
    """Whether each step is where what it needs lets it be."""
    plan = run.state.plan
    assert plan
    for each in plan.steps:
        status, needs = run.status[each.id], [run.status[other] for other in each.depends_on]
        well, gone = [need in UNLOCKS for need in needs], [need in FINAL - {*UNLOCKS} for need in needs]
        either = each.any_input and bool(needs)
        if status in ("running", "waiting", *UNLOCKS):
            fine = any(well) and not set(needs) & {*OPEN} if either else all(well)
        else:
            fine = status != "blocked" or (all(gone) if either else any(gone))
        if not fine:
            return False
    return True


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(wild_plans(), st.data())
def test_any_plan_ends_once_whatever_its_steps_ask_hand_over_fail_at_or_have_planned_again(
    plan: PlanProposed, data: st.DataObject
) -> None:
    run = Run()
    driver = Driver(run, data)
    run(plan)
    for _ in range(400):
        assert in_order(run)
        assert len(run.running) <= 3
        if run.ends:
            break
        assert run.running or run.waiting or run.state.replanning, "somebody is at it"
        driver.step()
    assert set(run.status.values()) <= FINAL
    assert is_over(run.state)
    assert [each.id for each in run.end.metadata.steps] == list(run.status)
    assert run.end.output
    assert len(run.replans) <= REVISIONS
    ran = [event.step.id for event in run.said if isinstance(event, StepReady) and not event.progress]
    back = {id_ for id_ in ran if ran.count(id_) > 1}
    assert not back, "no step begins twice"
    said = {each.step_id for each in run.progress if each.kind == "task_end"}
    assert said >= {id_ for id_ in run.status if not run.state.limit}
    for late in (*map(ended, run.status), NO_PLAN, CancelRequested()):
        assert run(late) == []
