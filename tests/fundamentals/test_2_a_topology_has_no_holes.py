"""Stages are put together by the types of their events. A graph with a hole does not start."""

from collections.abc import Sequence

import pytest

from schemas.errors import CouldNotStart
from schemas.events import Event, GoalSubmitted, GoalUnderstood, PlanProposed, RunFinished
from streams.stage import AnyStage, Context, Stage
from streams.topology import Topology


async def nothing(_event: Event, _ctx: Context[None]) -> Sequence[Event]:
    return []


def a_stage(name: str, accepts: type[Event], *emits: type[Event]) -> AnyStage:
    return Stage(name=name, reads=name, accepts=(accepts,), emits=emits, handle=nothing)


def together(*stages: AnyStage) -> Topology:
    return Topology(stages, {GoalSubmitted: "first"}, frozenset({RunFinished}))


def test_an_event_goes_to_whoever_accepts_its_type() -> None:
    first, second = a_stage("first", GoalSubmitted, GoalUnderstood), a_stage("second", GoalUnderstood, RunFinished)

    topology = together(first, second)

    assert topology.routes[GoalUnderstood] == ("second",)
    assert topology.routes[RunFinished] == ("results",)


def test_an_emitted_type_that_nobody_accepts_is_refused_by_name() -> None:
    with pytest.raises(CouldNotStart, match="'first' emits PlanProposed") as refusal:
        together(a_stage("first", GoalSubmitted, PlanProposed))
    assert refusal.value.code == "topology.no_consumer"
    assert refusal.value.hint


def test_an_accepted_type_that_nobody_emits_is_refused_by_name() -> None:
    with pytest.raises(CouldNotStart, match="'second' accepts PlanProposed") as refusal:
        together(a_stage("first", GoalSubmitted, RunFinished), a_stage("second", PlanProposed))
    assert refusal.value.code == "topology.no_producer"


def test_two_stages_of_one_name_are_refused() -> None:
    with pytest.raises(CouldNotStart) as refusal:
        together(a_stage("first", GoalSubmitted, RunFinished), a_stage("first", GoalSubmitted))
    assert refusal.value.code == "topology.twice"
