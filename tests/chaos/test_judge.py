"""The judge sees what must never happen. Streams are doctored: a judge that can't fail would be worth nothing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from msgspec import structs

from schemas.envelope import Envelope
from schemas.errors import ErrorInfo
from schemas.events import Event, GoalSubmitted, Metadata, RunFinished
from streams.append import Publisher
from streams.connection import Client
from streams.keys import Keys
from streams.outcome import DeadLetter
from streams.worker import Terms, Worker
from tests.chaos import judge as fault
from tests.chaos.evidence import Evidence, Found, collect, unsettled
from tests.chaos.judge import FAULTS, Verdict, judge
from tests.chaos.ledger import Ledger, Line
from tests.chaos.stages import STAGES, chaos_topology, expected, goal, project, route
from tests.workshop import eventually

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RESULTS, AGGREGATE, DEAD = "{v:0}:results", "{v:0}:aggregate", "{v:0}:dead"
LOOK, NOTE, PAY = "e1/look", "e1/note", "e1/pay"
END = RunFinished(
    status="completed",
    output="as said",
    method="rules",
    metadata=Metadata("none", "rules", None, 0, 0, 0.0, ()),
    stages=(),
)


def found(event_id: str, body: Event, *, again: bool = False) -> Found:
    return Found("1-1", Envelope(event_id, "run-0", 1, NOW, "user", body), "{}", again)


SOUND = Evidence(
    runs={"run-0": "said"},
    streams={
        RESULTS: [found("e9", END)],
        AGGREGATE: [found("e1", GoalSubmitted(goal="x")), found("e1", GoalSubmitted(goal="x"), again=True)],
        DEAD: [],
    },
    versions={"run-0": 1},
    unsettled={},
    records={"run-0": {LOOK: "t0", NOTE: "t2", PAY: "t3"}},
    lines=[
        Line("begun", "h1", 1, "run-0"),
        Line("done", "h1", 1, "run-0", LOOK, "none", "t0"),
        Line("done", "h1", 1, "run-0", NOTE, "repeat", "t1"),
        Line("begun", "h2", 2, "run-0"),
        Line("done", "h2", 2, "run-0", NOTE, "repeat", "t2"),
        Line("recorded", "h2", 2, "run-0", LOOK, "none", "t0"),
        Line("recorded", "h2", 2, "run-0", NOTE, "repeat", "t2"),
        Line("done", "h2", 2, "run-0", PAY, "unknown", "t3"),
        Line("recorded", "h2", 2, "run-0", PAY, "unknown", "t3"),
    ],
)
"""A run whose first worker died between an action and its record."""


def with_streams(**changed: list[Found]) -> Evidence:
    return replace(
        SOUND, streams={**SOUND.streams, **{f"{{v:0}}:{name}": entries for name, entries in changed.items()}}
    )


def with_lines(*more: Line) -> Evidence:
    return replace(SOUND, lines=[*SOUND.lines, *more])


def letter(code: str) -> Found:
    dead = DeadLetter("plan", "plan", "1-1", ErrorInfo(code, "why"))
    return Found("1-1", None, msgspec.json.encode(dead).decode())


def found_faults(verdict: Verdict) -> set[str]:
    return {name for name in FAULTS if verdict.count(name)}


def test_a_sound_run_holds_and_what_is_allowed_is_counted() -> None:
    verdict = judge(SOUND)
    assert found_faults(verdict) == set()
    assert verdict.holds
    assert (verdict.ended_once, verdict.repeats, verdict.unknowns) == (1, 1, 0)


DOCTORED: dict[str, tuple[Callable[[], Evidence], set[str]]] = {
    "a lost run": (lambda: with_streams(results=[]), {fault.LOST_RUN}),
    "a run that ended twice": (
        lambda: with_streams(results=[found("e9", END), found("e8", END)]),
        {fault.ENDED_TWICE},
    ),
    "a doubled output": (
        lambda: with_streams(results=[found("e9", END), found("e9", END)]),
        {fault.ENDED_TWICE, fault.DOUBLED},
    ),
    "a doubled output between stages": (
        lambda: with_streams(plan=[found("e5", GoalSubmitted(goal="x"))] * 2),
        {fault.DOUBLED},
    ),
    "an answer that lacks something": (lambda: replace(SOUND, runs={"run-0": "other"}), {fault.WRONG}),
    "an end of a run nobody submitted": (lambda: replace(SOUND, runs={}, versions={}), {fault.WRONG}),
    "an entry that nobody settled": (lambda: replace(SOUND, unsettled={AGGREGATE: 1}), {fault.LOST_EVENT}),
    "a doubled state change": (lambda: replace(SOUND, versions={"run-0": 2}), {fault.STATE_DOUBLED}),
    "a lost state change": (lambda: replace(SOUND, versions={"run-0": 0}), {fault.STATE_LOST}),
    "a recorded effect done again": (
        lambda: with_lines(Line("begun", "h3", 3, "run-0"), Line("done", "h3", 3, "run-0", NOTE, "repeat", "t9")),
        {fault.REPEATED},
    ),
    "a recorded look that gave something else": (
        lambda: with_lines(Line("recorded", "h3", 3, "run-0", LOOK, "none", "t9")),
        {fault.RECORD_CHANGED},
    ),
    "a look whose record was written over": (
        lambda: replace(SOUND, records={"run-0": {LOOK: "t9", NOTE: "t2", PAY: "t3"}}),
        {fault.RECORD_LOST},
    ),
    "an unknown effect done twice": (
        lambda: with_lines(Line("done", "h2", 2, "run-0", PAY, "unknown", "t9")),
        {fault.UNKNOWN_TWICE},
    ),
    "a lost record": (lambda: replace(SOUND, records={"run-0": {LOOK: "t0", NOTE: "t2"}}), {fault.RECORD_LOST}),
    "a changed record": (
        lambda: with_lines(Line("recorded", "h2", 2, "run-0", PAY, "unknown", "t9")),
        {fault.RECORD_CHANGED},
    ),
    "another idempotency key": (
        lambda: with_lines(Line("done", "h2", 2, "run-0", "elsewhere", "repeat", "t9")),
        {fault.KEY_CHANGED},
    ),
    "a dead letter for another reason": (lambda: with_streams(dead=[letter("stage.error")]), {fault.LETTER}),
}


@pytest.mark.parametrize("case", DOCTORED)
def test_the_judge_sees(case: str) -> None:
    doctor, faults = DOCTORED[case]
    verdict = judge(doctor())
    assert found_faults(verdict) == faults
    assert not verdict.holds


def test_two_workers_that_acted_side_by_side_have_repeated_nothing_recorded() -> None:
    lines = list(SOUND.lines)
    recorded = lines.index(Line("recorded", "h2", 2, "run-0", NOTE, "repeat", "t2"))
    lines.insert(recorded, Line("done", "h1", 1, "run-0", NOTE, "repeat", "t4"))
    assert judge(replace(SOUND, lines=lines)).holds


def test_a_look_may_be_done_again_if_only_its_record_counts() -> None:
    late = (Line("begun", "h3", 3, "run-0"), Line("done", "h3", 3, "run-0", LOOK, "none", "t9"))
    assert judge(with_lines(*late, Line("recorded", "h4", 3, "run-0", LOOK, "none", "t0"))).holds


def test_a_run_may_fail_only_after_an_unknown_outcome() -> None:
    failed = [found("e9", structs.replace(END, status="failed"))]
    assert found_faults(judge(with_streams(results=failed))) == {fault.WRONG}
    gave_up = Line("unknown", "h3", 3, "run-0", "e2/pay", "unknown")
    streams = {**SOUND.streams, RESULTS: failed, DEAD: [letter("effect.unknown")]}
    verdict = judge(replace(SOUND, streams=streams, lines=[*SOUND.lines, gave_up]))
    assert verdict.holds
    assert (verdict.unknowns, verdict.letters) == (1, {"effect.unknown": 1})


async def test_a_real_run_holds_until_its_streams_are_doctored(client: Client, prefix: str, tmp_path: Path) -> None:
    keys, path = Keys(prefix), tmp_path / "ledger.jsonl"
    topology = chaos_topology(client, keys, project(tmp_path), Ledger(path))
    runs = {f"run-{number}": expected(number) for number in range(3)}
    worker = Worker(STAGES, topology, client, keys, route, Terms(lease=5.0))
    server: Any = client
    results = keys.stream("0", "results")
    async with anyio.create_task_group() as tasks:
        await tasks.start(worker.run)
        await Publisher(client, keys).publish([(run, goal(number)) for number, run in enumerate(runs)], "intake")

        async def over() -> bool:
            ended = [entry for entry in await server.xrange(results) if entry[1][b"type"] == b"RunFinished"]
            return len(ended) == 3 and not await unsettled(client, keys, topology)

        await eventually(over)
        worker.stop()

    assert judge(await collect(client, keys, topology, runs, path)).holds
    last_id, last = (await server.xrevrange(results, count=1))[0]
    await server.xadd(results, last)
    assert found_faults(judge(await collect(client, keys, topology, runs, path))) == {fault.DOUBLED, fault.ENDED_TWICE}
    for entry_id, _ in await server.xrange(results, min=last_id):
        await server.xdel(results, entry_id)
    assert found_faults(judge(await collect(client, keys, topology, runs, path))) == {fault.LOST_RUN}
    await server.xadd(keys.stream("0", "plan"), {"type": "StageFailed", "event": "{}"})
    assert fault.LOST_EVENT in found_faults(judge(await collect(client, keys, topology, runs, path)))
