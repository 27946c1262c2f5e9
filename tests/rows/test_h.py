"""H. hypothesis-validation: what may be so is found out in the background, and ends confirmed, refuted or open."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from consumers.hypotheses import HypothesisView, validation_ids
from deploy.loading import load
from deploy.wiring import opened
from schemas.errors import ModelFailed
from schemas.events import (
    CancelRequested,
    GoalSubmitted,
    HypothesisJudged,
    HypothesisRaised,
    InferenceRequested,
    MemoryKept,
    RunFinished,
    ValidationFinished,
)
from tests.rows.conftest import Build
from tests.rows.house import House, Says
from tests.workshop import eventually

FOUND = "The lake is 571 m deep."
STATEMENT = "The lake is deeper than 500 m."


def judging(verdict: str, confidence: float = 0.9, quote: str = "571 m deep") -> Mapping[str, Says]:
    """A model that checks by one goal more, answers what is asked, and judges so."""
    judge = {"verdict": verdict, "confidence": confidence, "quotes": [quote], "why": "It was measured."}
    return {"validate": {"goals": ["How deep is the lake?"]}, "answer": FOUND, "judge": judge}


async def raised(home: House, number: int = 0, **fields: Any) -> str:
    id_ = f"guess-{number}"
    event = HypothesisRaised(statement=STATEMENT, project=home.victoria.projects.main, **fields)
    for _ in range(2):
        await home.victoria.publish([(id_, event)])
    return id_


async def seen(home: House, id_: str) -> HypothesisView:
    await home.said(id_, HypothesisJudged)
    return await home.victoria.hypotheses.show(id_)


@pytest.mark.parametrize(
    ("says", "verdict", "confidence"),
    [
        (judging("confirmed"), "confirmed", 0.9),
        (judging("refuted", 0.8), "refuted", 0.8),
        (judging("open", 0.3), "open", 0.3),
        (judging("confirmed", 0.4), "open", 0.4),
        (judging("confirmed", quote="The moon is made of cheese"), "open", 0.0),
        ({"answer": FOUND}, "open", 0.0),
    ],
    ids=["confirmed", "refuted", "open", "not sure enough", "quoted from nowhere", "no model judges"],
)
async def test_H1_a_hypothesis_ends_as_its_validations_show_and_only_what_is_confirmed_is_knowledge(
    house: Build, says: Mapping[str, Says], verdict: str, confidence: float
) -> None:
    async with house(says, use_victoria_enhanced="false") as home:
        id_ = await raised(home, evidence=("A sailor said so.",), source="by hand")
        found = await seen(home, id_)
        assert (found.verdict, found.confidence) == (verdict, confidence)
        assert {each.status for each in found.validations} == {"completed"}
        assert [each.run_id for each in found.validations] == list(validation_ids(id_)[: len(found.validations)])
        kept = await home.events(id_, MemoryKept)
        assert [(k.tag, k.text, k.source, k.trust) for k in kept] == (
            [("insight", STATEMENT, f"hypothesis:{id_}", "tool")] if verdict == "confirmed" else []
        )
        assert [each.id for each in await home.victoria.hypotheses.newest(5)] == [id_]
        assert len(await home.events(id_, HypothesisJudged)) == 1
        asked: list[str] = []
        for run in (id_, *(each.run_id for each in found.validations)):
            assert len(await home.events(run, GoalSubmitted)) == (0 if run == id_ else 1)
            asked += [each.priority for each in await questions(home, run)]
        assert set(asked) == {"background"}


async def questions(home: House, run: str) -> list[InferenceRequested]:
    return await home.events(run, InferenceRequested)


async def test_H1_what_a_session_says_as_a_hypothesis_is_raised_in_a_run_of_its_own(house: Build) -> None:
    async with house(judging("confirmed"), use_victoria_enhanced="false") as home:
        run = await home.submit(f"Hypothesis: {STATEMENT} Read docs/alpha.txt", session="trip")
        await home.said(run, HypothesisRaised)

        async def judged() -> list[HypothesisView]:
            return [each for each in await home.victoria.hypotheses.newest(5) if each.verdict == "confirmed"]

        await eventually(judged, 20)
        (found,) = await judged()
        assert (found.source, found.id != run) == (f"run:{run}", True)
        (judged_,) = await home.events(found.id, HypothesisJudged)
        assert judged_.session == "trip"


async def test_H1_validations_that_fail_or_are_cancelled_leave_it_open(house: Build) -> None:
    says = {**judging("confirmed"), "answer": ModelFailed("model.refused", "I don't know.")}
    async with house(says, use_victoria_enhanced="false") as home:
        id_ = await raised(home)
        first, second = validation_ids(id_)[:2]
        await home.said(first, GoalSubmitted)
        await home.publish(first, CancelRequested(reason="Not now."), "aggregate")
        found = await seen(home, id_)
        assert (found.verdict, found.confidence) == ("open", 0.0)
        assert home.heard("judge") == []
        assert (await home.said(second, RunFinished)).method == "rules"
        assert len(await home.events(id_, ValidationFinished)) == 2


async def test_H1_one_that_gets_no_results_is_open_at_its_deadline(redis_url: str, prefix: str, tmp_path: Path) -> None:
    given = {"redis_url": redis_url, "prefix": prefix, "model": "none", "hypothesis_timeout": "0.5"}
    async with opened(load(given, {}, tmp_path), redis_url) as victoria, anyio.create_task_group() as tasks:
        worker = victoria.worker(["hypothesis-validation"])  # nobody reads intake
        await tasks.start(worker.run)
        await victoria.publish([("guess", HypothesisRaised(statement=STATEMENT))])

        async def judged() -> bool:
            found = await victoria.hypotheses.newest(1)
            return bool(found) and found[0].verdict != "validating"

        await eventually(judged)
        found = await victoria.hypotheses.show("guess")
        assert (found.verdict, found.confidence, found.why) == ("open", 0.0, "Nothing was found out about it.")
        worker.stop()


async def test_H1_what_validates_raises_no_hypotheses_itself(house: Build) -> None:
    async with house(judging("confirmed"), use_victoria_enhanced="false") as home:
        id_ = await raised(home)
        found = await seen(home, id_)
        run = found.validations[0].run_id
        await home.publish(run, HypothesisRaised(statement="And one more."), "hypothesis-validation")
        other = await raised(home, 1)
        await seen(home, other)
        assert [each.id for each in await home.victoria.hypotheses.newest(9)] == [other, id_]


@pytest.mark.heavy
@pytest.mark.usefixtures("model_file")
async def test_H1_it_ends_on_the_real_embedded_model(house: Build) -> None:
    async with house(model="local", hypothesis_timeout="60", max_iterations="2") as home:
        id_ = await raised(home)
        judged = await home.said(id_, HypothesisJudged, within=240)
        assert judged.verdict in ("confirmed", "refuted", "open")
        assert judged.verdict == "open" or judged.evidence
