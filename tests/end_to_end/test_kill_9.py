"""kill -9 on any stage in mid-run: a new one goes on, and every run ends exactly once."""

from collections import Counter
from collections.abc import Iterable

import pytest

from schemas.events import RunFinished, StepFinished
from streams.journal import Journal
from tests.end_to_end.conftest import Processes
from tests.workshop import Workshop, eventually

STAGES = {"understand": "intake", "plan": "plan", "step-execute": "step-execute", "aggregate": "aggregate"}
RUNS = 300
GOAL = "List the files in the folder docs and read docs/beta.txt"


async def all_ended(workshop: Workshop, runs: int) -> bool:
    return len(await ends(workshop)) >= runs


async def ends(workshop: Workshop) -> dict[str, list[RunFinished]]:
    found: dict[str, list[RunFinished]] = {}
    for entry in await workshop.entries("results"):
        if entry.envelope and isinstance(entry.envelope.body, RunFinished):
            found.setdefault(entry.envelope.run, []).append(entry.envelope.body)
    return found


async def doubled_events(workshop: Workshop, streams: Iterable[str] = (*STAGES.values(), "results")) -> list[str]:
    """Ids that stand twice on one of these streams."""
    twice: list[str] = []
    for stream in streams:
        ids = Counter(entry.envelope.id for entry in await workshop.entries(stream) if entry.envelope)
        twice += [event_id for event_id, count in ids.items() if count > 1]
    return twice


@pytest.mark.parametrize(
    "victim", [each if each == "aggregate" else pytest.param(each, marks=pytest.mark.heavy) for each in STAGES]
)
async def test_a_killed_stage_is_replaced_and_every_run_ends_exactly_once(processes: Processes, victim: str) -> None:
    processes.environ["VICTORIA_MODEL"] = "none"
    workshop = processes.workshop
    processes.start(victim)
    processes.start(*(stage for stage in STAGES if stage != victim))
    await processes.ready(*STAGES)
    runs = await workshop.publish(*[GOAL] * RUNS)

    left = await processes.kill_in_mid_work(victim, STAGES[victim])
    assert left > 0, "it held entries when it died"
    processes.start(victim)
    await eventually(lambda: all_ended(workshop, RUNS), within=60)

    finished = await ends(workshop)
    assert sorted(finished) == sorted(runs)
    assert {len(each) for each in finished.values()} == {1}
    assert {end.status for each in finished.values() for end in each} == {"completed"}
    assert all("This is beta.txt." in end.output and "gamma.txt" in end.output for (end,) in finished.values())
    assert await doubled_events(workshop) == []
    assert await workshop.entries("dead") == []
    steps = [body for body in await workshop.bodies("aggregate") if isinstance(body, StepFinished)]
    assert len(steps) == 2 * RUNS
    assert set(processes.stop_all().values()) == {0}


async def test_a_killed_inference_consumer_is_replaced_and_each_question_has_one_answer(processes: Processes) -> None:
    workshop = processes.workshop
    processes.start(*STAGES)
    processes.start("infer.local")
    await processes.ready(*STAGES, "infer.local")
    (run,) = await workshop.publish("What is a Redis stream?")

    assert await processes.kill_in_mid_work("infer.local", "infer.local") == 1
    processes.start("infer.local")
    await eventually(lambda: all_ended(workshop, 1), within=120)

    ((end,),) = (await ends(workshop)).values()
    assert (end.status, end.method) == ("completed", "simple")
    assert "stream" in end.output.lower()
    assert end.metadata.model.startswith("SmolLM2")
    journal = await Journal(workshop.client, workshop.keys).everything(run)
    answered = {
        effect.split("/")[1].split(".")[0]
        for effect, record in journal.items()
        if record.kind == "ask" and not record.error
    }
    assert answered == {"answer", "understand"}
    put = [entry.envelope.id for entry in await workshop.entries("infer.local", "infer") if entry.envelope]
    assert len(put) == len(set(put)), "each question was put once"
    assert set(processes.stop_all().values()) == {0}
