"""kill -9 on hypothesis-validation in the midst of its work: each hypothesis ends once, none is validated twice."""

from collections import Counter
from typing import Any

import pytest

from consumers.hypotheses import NAME, Hypotheses, validation_ids
from schemas.events import GoalSubmitted, HypothesisJudged, HypothesisRaised, RunFinished, ValidationFinished
from tests.end_to_end.conftest import Processes
from tests.end_to_end.test_kill_9 import doubled_events
from tests.workshop import Workshop, eventually

OTHERS = ("understand", "plan", "step-execute", "aggregate")
COUNT = 300


async def runs_of(workshop: Workshop, stream: str, event: type[Any]) -> list[str]:
    """The runs that have an event of a type on a stream, as often as they have one."""
    entries = await workshop.entries(stream)
    return [e.envelope.run for e in entries if e.envelope and isinstance(e.envelope.body, event)]


@pytest.mark.heavy
async def test_a_killed_validator_is_replaced_and_each_hypothesis_ends_once(processes: Processes) -> None:
    processes.environ["VICTORIA_MODEL"] = "none"
    workshop = processes.workshop
    guesses = [f"guess-{number}" for number in range(COUNT)]
    statement = HypothesisRaised(statement="The file docs/beta.txt is empty.")
    processes.start(NAME)
    await processes.ready(NAME)
    await workshop.publisher.publish([(guess, statement) for guess in guesses[: COUNT // 2]], NAME)
    assert await processes.kill_in_mid_work(NAME, NAME) > 0, "it held hypotheses when it died"
    processes.start(*OTHERS)
    processes.start(NAME)
    await processes.ready(NAME, *OTHERS)
    await workshop.publisher.publish([(guess, statement) for guess in guesses[COUNT // 2 :]], NAME)
    assert await processes.kill_in_mid_work(NAME, NAME) > 0, "and now perhaps what their runs found"
    processes.start(NAME)

    async def judged() -> bool:
        return len(await runs_of(workshop, "results", HypothesisJudged)) >= COUNT

    await eventually(judged, within=60)
    assert Counter(await runs_of(workshop, "results", HypothesisJudged)) == dict.fromkeys(guesses, 1)
    goals = [validation_ids(guess)[0] for guess in guesses]
    assert sorted(await runs_of(workshop, "intake", GoalSubmitted)) == sorted(goals), "no validation twice"
    assert sorted(await runs_of(workshop, "results", RunFinished)) == sorted(goals)
    told = Counter(await runs_of(workshop, NAME, ValidationFinished))
    assert [told[guess] for guess in guesses] == [1] * COUNT
    assert await doubled_events(workshop, [NAME, "intake", "plan", "step-execute", "aggregate", "results"]) == []
    assert await workshop.entries("dead") == []
    hypotheses = Hypotheses(workshop.client, workshop.keys, workshop.publisher)
    views = await hypotheses.newest(2 * COUNT)
    assert sorted(view.id for view in views) == sorted(guesses)
    assert {(view.verdict, *(each.status for each in view.validations)) for view in views} == {("open", "completed")}
    assert set(processes.stop_all().values()) == {0}
