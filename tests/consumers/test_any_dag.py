"""Random plans on a real server all end, each step in its order, never more than three of a run at once."""

from collections.abc import Sequence
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from consumers import aggregate
from consumers.questions import Questions
from consumers.runs.check import MAX_STEPS
from consumers.runs.state import UNLOCKS
from schemas.errors import ErrorInfo, InvalidInput
from schemas.events import (
    AnswerFound,
    CancelRequested,
    DeadlinePassed,
    DeadlineSet,
    DelegationRequested,
    Event,
    ExchangeCompleted,
    PlanProposed,
    QuestionAnswered,
    QuestionAsked,
    ReplanRequested,
    RunFinished,
    RunProgressed,
    StageFailed,
    StepFinished,
    StepHandedOff,
    StepReady,
    ValidationFinished,
)
from schemas.plan import Plan, Progress, Step, StepStatus
from streams.asking import NoModels
from streams.stage import AnyStage, Policy, Snooze, Stage
from streams.topology import Topology
from streams.worker import Worker
from tests.workshop import TERMS, Workshop, eventually

AT_ONCE = 3
WAYS = (*["ok"] * 9, *["partial", "failed", "skipped", "asks", "goes round"] * 3, "raises")
"""How a step goes, by its title."""
FINAL = {"ok", "partial", "failed", "blocked", "skipped"}


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Wide ones, deep ones, and whatever a bad model makes: circles, ids twice, needs that are none or the step's own.

    Drawn as numbers, since a thousand of them are wanted.
    """
    shape, seed = draw(st.sampled_from(["wide", "deep", "wild", "wild", "wild"])), draw(st.randoms())
    count = seed.randint(0 if shape == "wild" else 10, 24)
    steps: list[Step] = []
    for number in range(count):
        needs: Sequence[object] = ()
        id_ = number
        match shape:
            case "deep":
                needs = [number - 1] if number else []
            case "wild":
                id_ = seed.randint(0, count)
                needs = [seed.choice((seed.randint(0, count), id_, "ghost")) for _ in range(seed.randint(0, 4))]
            case _:
                pass
        way = seed.choice(WAYS)
        needed = tuple(map(str, needs))
        steps.append(Step(str(id_), way, way, depends_on=needed, expert="memo", any_input=seed.random() < 0.3))
    return Plan("react", tuple(steps))


def drawn(count: int) -> list[Plan]:
    """Plans as hypothesis draws them."""
    found: list[Plan] = []

    @settings(
        max_examples=count,
        deadline=None,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(plans())
    def draw(plan: Plan) -> None:
        found.append(plan)

    draw()
    return found


class Watch:
    """The stage of the steps: each goes its way, and what of a run is at work, and was given, is looked at."""

    def __init__(self) -> None:
        self.at_work: dict[str, set[str]] = {}
        self.most: dict[str, int] = {}
        self.begun: dict[str, list[StepReady]] = {}
        self.wrong: list[str] = []
        self.over: dict[tuple[str, str], StepStatus] = {}

    async def handle(self, event: StepReady, ctx: Any) -> list[Event]:
        run, step = ctx.run_id, event.step
        here = self.at_work.setdefault(run, set())
        if step.id in here:
            self.wrong.append(f"{run}: {step.id} twice at once")
        here.add(step.id)
        self.most[run] = max(self.most.get(run, 0), len(here))
        if not event.progress:
            self.begun.setdefault(run, []).append(event)
        ends = {other: self.over.get((run, other)) for other in step.depends_on}
        well = [end in UNLOCKS for end in ends.values()]
        if well and not (any(well) if step.any_input else all(well)):
            self.wrong.append(f"{run}: {step.id} began after {ends}")
        if event.inputs.keys() != {other for other, end in ends.items() if end in UNLOCKS}:
            self.wrong.append(f"{run}: {step.id} was given {set(event.inputs)} of {ends}")
        await anyio.lowlevel.checkpoint()
        here.remove(step.id)
        return [self.end(event, ctx)]

    def end(self, event: StepReady, ctx: Any) -> Event:
        """What comes of it."""
        step, way = event.step, event.step.title
        match way:
            case "asks" if not event.progress:
                question = ctx.run_id + "." + ctx.new_id("question")
                return QuestionAsked(question_id=question, step_id=step.id, question="?", progress=Progress(rounds=1))
            case "goes round":
                other = {"memo": "schedule", "schedule": "memo"}[step.expert]
                if step.expert == "schedule":
                    self.over[ctx.run_id, step.id] = "failed"
                return StepHandedOff(step_id=step.id, capability="x", expert=other, progress=Progress(rounds=1))
            case "raises":
                self.over[ctx.run_id, step.id] = "failed"
                raise RuntimeError("a bug")
            case "partial" | "failed" | "skipped":
                status: StepStatus = way
            case _:
                status = "ok"
        self.over[ctx.run_id, step.id] = status
        return StepFinished(step_id=step.id, status=status, output=f"{step.id} of {ctx.run_id}")

    async def given_up(self, event: StepReady | None, error: ErrorInfo, _ctx: Any) -> list[Event]:
        assert event
        return [StepFinished(step_id=event.step.id, status="failed", error=error)]

    def stage(self) -> AnyStage:
        emits = (StepFinished, QuestionAsked, StepHandedOff)
        policy = Policy(attempts=1)
        return Stage("step-execute", (StepReady,), emits, self.handle, "step-execute", policy, on_dead=self.given_up)


def person(questions: Questions) -> AnyStage:
    """Somebody who answers whatever waits for an answer."""

    async def answer(event: QuestionAsked, _ctx: Any) -> list[Event]:
        try:
            found = await questions.find(event.question_id)
        except InvalidInput:  # its run does not know of it yet
            raise Snooze(0.02) from None
        return [QuestionAnswered(question_id=found.asking.id, answer="yes")]

    return Stage("person", (QuestionAsked,), (QuestionAnswered,), answer, "person")


@pytest.mark.parametrize("count", [100, pytest.param(1_000, marks=pytest.mark.heavy)])
async def test_random_plans_all_end_in_order_and_never_more_than_three_steps_of_a_run_at_once(
    workshop: Workshop, record_property: Any, count: int
) -> None:
    proposed, watch = drawn(count), Watch()
    assert len(proposed) == count
    questions = Questions(workshop.client, workshop.keys)
    stages = (aggregate.stage(questions.listed), watch.stage(), person(questions))
    outside = (AnswerFound, PlanProposed, CancelRequested, DeadlinePassed, StageFailed)
    away = (
        *(RunProgressed, RunFinished, DelegationRequested, ReplanRequested, DeadlineSet, ExchangeCompleted),
        ValidationFinished,
    )
    topology = Topology(stages, dict.fromkeys(outside, "aggregate"), frozenset(away))
    names = [stage.name for stage in stages]
    worker = Worker(names, topology, workshop.client, workshop.keys, NoModels(), TERMS)
    ends: dict[str, list[RunFinished]] = {}

    async def all_ended() -> bool:
        ends.clear()
        for entry in await workshop.entries("results"):
            if entry.envelope and isinstance(entry.envelope.body, RunFinished):
                ends.setdefault(entry.envelope.run, []).append(entry.envelope.body)
        await anyio.sleep(0.5)
        return len(ends) >= count

    began = monotonic()
    runs = [(f"run-{number}", PlanProposed(restated="x", plan=plan)) for number, plan in enumerate(proposed)]
    async with anyio.create_task_group() as tasks:
        await tasks.start(worker.run)
        await workshop.publisher.publish(runs, "aggregate")
        await eventually(all_ended, within=120)
        worker.stop()
    record_property(f"{count:,} plans", f"{sum(map(len, watch.begun.values())):,} steps in {monotonic() - began:.1f} s")

    assert watch.wrong == []
    assert max(watch.most.values()) == AT_ONCE
    assert {len(each) for each in ends.values()} == {1}
    for run, event in runs:
        (end,) = ends[run]
        statuses = {step.id: step.status for step in end.metadata.steps}
        ids = list(dict.fromkeys(step.id for step in event.plan.steps))[:MAX_STEPS]
        assert list(statuses) == ids, run
        assert set(statuses.values()) <= FINAL, run
        begun = [ready.step.id for ready in watch.begun.get(run, [])]
        assert len(begun) == len(set(begun)), "no step begins twice"
        assert {id_ for id_ in ids if id_ not in begun} == {id_ for id_ in ids if statuses[id_] == "blocked"}, run
        assert all(statuses[id_] == watch.over[run, id_] for id_ in begun), run
        assert (end.status == "completed") == bool({*UNLOCKS} & set(statuses.values())), run
    kinds = {type(event) for event in await workshop.bodies("aggregate")}
    assert kinds >= {StepFinished, StepHandedOff, QuestionAsked, QuestionAnswered}
