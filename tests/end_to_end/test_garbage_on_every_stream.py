"""Garbage on any stream of the real topology: a dead letter with the reason, and the next goal is answered."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from consumers.intake import goal_submitted
from deploy.loading import load
from deploy.victoria import Victoria
from deploy.wiring import opened
from llm.scripted import ScriptedEngine
from schemas.envelope import Envelope
from schemas.events import CATALOGUE, RunFinished
from streams.outcome import DeadLetter
from tests.workshop import Workshop, eventually

STREAMS = {
    "intake": "understand",
    "plan": "plan",
    "step-execute": "step-execute",
    "aggregate": "aggregate",
    "infer.local": "infer.local",
}
GARBAGE: list[dict[str, str]] = [
    {"note": "hello"},
    {"type": "GoalSubmitted", "event": "{"},
    {"type": "RunFinished", "event": '{"id":"x"}'},
    {"type": "Nonsense", "event": "null"},
]


@asynccontextmanager
async def at_work(redis_url: str, prefix: str, project: Path) -> AsyncGenerator[Victoria]:
    """All stages at work in this process; models' answers come from a script, which is a fake."""
    loaded = load({"redis_url": redis_url, "prefix": prefix}, environ={}, folder=project)
    async with opened(loaded, redis_url) as victoria, anyio.create_task_group() as tasks:
        engine = ScriptedEngine(lambda request: "the script's answer" if request.schema is None else "{}")
        victoria.engines.use("local", engine)
        worker = victoria.worker(await victoria.needed())
        await tasks.start(worker.run)
        yield victoria
        worker.stop()


@pytest.mark.parametrize("stream", STREAMS)
async def test_garbage_is_kept_as_a_dead_letter_and_the_worker_goes_on(
    redis_url: str, prefix: str, tmp_path: Path, stream: str
) -> None:
    (tmp_path / "only.txt").touch()
    async with at_work(redis_url, prefix, tmp_path) as victoria:
        workshop = Workshop(victoria.client, victoria.keys)
        partition = victoria.keys.of_stream(stream)[0]
        client: Any = victoria.client
        for fields in GARBAGE:
            await client.xadd(victoria.keys.stream(partition, stream), fields)

        async def all_dead() -> bool:
            return len(await workshop.entries("dead", partition)) == len(GARBAGE)

        await eventually(all_dead)
        await victoria.submit(
            [("run-1", goal_submitted("List the files here")), ("run-2", goal_submitted("What is a stream?"))]
        )

        async def both_ended() -> bool:
            return sum(isinstance(body, RunFinished) for body in await workshop.bodies("results")) == 2

        await eventually(both_ended)
        letters = [msgspec.json.decode(e.text, type=DeadLetter) for e in await workshop.entries("dead", partition)]
        ends = {run: (await victoria.view(run)).finished for run in ("run-1", "run-2")}
    assert {(letter.stage, letter.stream) for letter in letters} == {(STREAMS[stream], stream)}
    assert all(letter.error.code and letter.error.message and letter.error.hint for letter in letters)
    assert [letter.type or letter.fields["note"] for letter in letters] == [
        fields.get("type", "hello") for fields in GARBAGE
    ]
    assert ends["run-1"]
    assert ends["run-1"].output == "only.txt"
    assert ends["run-2"]
    assert ends["run-2"].output == "the script's answer"


MALFORMED = {
    "intake": ("GoalSubmitted", {"goal": 1}),
    "plan": ("GoalUnderstood", {"restated": 1}),
    "step-execute": (
        "StepReady",
        {"step": {"id": "1", "title": "t", "instruction": "i", "how": "nonsense"}, "goal": ""},
    ),
    "delegate": ("DelegationRequested", {"step": None}),
    "aggregate": ("PlanProposed", {"restated": "x", "plan": {"strategy": "s", "steps": 7}}),
}


async def test_a_run_one_of_whose_events_can_not_be_read_ends_and_says_so(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    async with at_work(redis_url, prefix, tmp_path) as victoria:
        workshop = Workshop(victoria.client, victoria.keys)
        for stream, (kind, body) in MALFORMED.items():
            version = CATALOGUE[kind].version
            envelope = Envelope(stream, f"run-{stream}", version, datetime.now(UTC), "user", body)
            fields: Any = {"type": kind, "event": msgspec.json.encode(envelope)}
            await victoria.client.xadd(victoria.keys.stream("0", stream), fields)

        async def all_ended() -> bool:
            return sum(isinstance(body, RunFinished) for body in await workshop.bodies("results")) == len(MALFORMED)

        await eventually(all_ended)
        said = [entry.envelope for entry in await workshop.entries("results") if entry.envelope]
    ends = {each.run: each.body for each in said if isinstance(each.body, RunFinished)}
    for stream in MALFORMED:
        end = ends[f"run-{stream}"]
        assert (end.status, end.error and end.error.code) == ("failed", "event.malformed"), stream


async def test_garbage_among_the_results_disturbs_nobody_who_follows_them(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    (tmp_path / "only.txt").touch()
    async with at_work(redis_url, prefix, tmp_path) as victoria:
        client: Any = victoria.client
        for fields in GARBAGE:
            await client.xadd(victoria.keys.stream("0", "results"), fields)
        await victoria.submit([("run-1", goal_submitted("List the files here"))])
        workshop = Workshop(victoria.client, victoria.keys)

        async def ended() -> bool:
            return any(isinstance(body, RunFinished) for body in await workshop.bodies("results"))

        await eventually(ended)
        assert (await victoria.view("run-1")).status == "completed"
