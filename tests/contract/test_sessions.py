"""Sessions over all stages and eight partitions, on every server: one turn after the other, whoever works and dies."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec

from consumers.intake import goal_submitted
from consumers.sessions import Said, Turn
from deploy.loading import load
from deploy.victoria import Victoria
from deploy.wiring import opened
from gateway.standing import Standings
from gateway.submit import Results
from schemas.events import Exchange, RunFinished
from streams.journal import Record
from tests.workshop import eventually


@asynccontextmanager
async def victoria_of(url: str, prefix: str, project: Path) -> AsyncGenerator[Victoria]:
    """A Victoria in a project of ten files, file-0 to file-9."""
    for number in range(10):
        (project / f"file-{number}.txt").write_text(f"This is number {number}.\n")
    given = {"redis_url": url, "prefix": prefix, "model": "none", "partitions": "8", "lease": "1"}
    async with opened(load(given, environ={}, folder=project), url) as victoria:
        yield victoria


@asynccontextmanager
async def working(victoria: Victoria, *stages: str, workers: int = 1) -> AsyncGenerator[None]:
    """Inside, so many workers serve these stages, or all."""
    async with anyio.create_task_group() as at:
        made = [victoria.worker(stages or await victoria.needed()) for _ in range(workers)]
        for worker in made:
            await at.start(worker.run)
        yield
        for worker in made:
            worker.stop()


async def ends_of(results: Results, *runs: str) -> dict[str, RunFinished]:
    """How these runs end, in the order in which they do."""
    ends: dict[str, RunFinished] = {}
    with anyio.fail_after(90):
        async for seen in results.of(runs):
            if seen.envelope and isinstance(seen.envelope.body, RunFinished):
                ends[seen.envelope.run] = seen.envelope.body
    return ends


async def seen_by(victoria: Victoria, run: str) -> tuple[Exchange, ...]:
    """What a run knew of what was said before it, by its journal."""
    client: Any = victoria.client
    journal: dict[bytes, bytes] = await client.hgetall(victoria.keys.journal(run))
    (turn,) = [
        msgspec.json.decode(msgspec.json.decode(data, type=Record).result, type=Turn)
        for effect, data in journal.items()
        if effect.endswith(b"/session")
    ]
    return turn.history


def reading(number: int) -> str:
    return f"Read file-{number}.txt"


async def test_ten_turns_submitted_at_once_are_answered_in_order_by_two_workers(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    runs = [f"run-{number}" for number in range(10)]
    async with victoria_of(redis_url, prefix, tmp_path) as victoria:
        results = await Results.from_now(victoria)
        goals = [(run, goal_submitted(reading(n), session="trip")) for n, run in enumerate(runs)]
        alone = [(f"alone-{n}", goal_submitted(reading(n), session=f"alone {n}")) for n in range(10)]
        await victoria.submit([goal for pair in zip(goals, alone, strict=True) for goal in pair])
        async with working(victoria, workers=2):
            await ends_of(results, *runs, *(run for run, _ in alone))

            async def all_kept() -> bool:
                view = await victoria.sessions.show("trip")
                return bool(view and not view.line)

            await eventually(all_kept)
        view = await victoria.sessions.show("trip")
        assert view
        assert [each.run for each in view.said] == runs
        for number, run in enumerate(runs):
            before = tuple(Exchange(each.user, each.assistant) for each in view.said[:number])
            assert await seen_by(victoria, run) == before
            assert f"This is number {number}." in view.said[number].assistant
        for number, (run, _) in enumerate(alone):
            assert await seen_by(victoria, run) == ()
            shown = await victoria.sessions.show(f"alone {number}")
            assert shown
            assert shown.said == (Said(run, reading(number), f"This is number {number}.\n"),)
        for partition in victoria.keys.of_stream("intake"):
            assert await victoria.client.xlen(victoria.keys.dead(partition)) == 0


async def test_the_next_turn_knows_what_was_said_without_memory_compress(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    async with victoria_of(redis_url, prefix, tmp_path) as victoria:
        results = await Results.from_now(victoria)
        await victoria.submit([(run, goal_submitted(reading(1), session="trip")) for run in ("one", "two")])
        async with working(victoria, "understand", "plan", "step-execute", "aggregate"):
            await ends_of(results, "one", "two")
        (exchange,) = await seen_by(victoria, "two")
        assert exchange == Exchange(reading(1), "This is number 1.\n")
        async with working(victoria, "memory-compress"):

            async def handled() -> bool:
                keys, client = victoria.keys, victoria.client
                streams = [keys.stream(partition, "memory-compress") for partition in keys.of_stream("memory-compress")]
                waiting = [group["lag"] or group["pending"] for s in streams for group in await client.xinfo_groups(s)]
                return not any(waiting)

            await eventually(handled)
        view = await victoria.sessions.show("trip")
        assert view
        assert [each.run for each in view.said] == ["one", "two"], "and keeps nothing twice"


async def test_a_turn_that_fails_or_is_cancelled_does_not_stop_the_next(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    async with victoria_of(redis_url, prefix, tmp_path) as victoria:
        results = await Results.from_now(victoria)
        goals = {"failed": "Read nowhere.txt", "cancelled": reading(1), "completed": reading(2)}
        await victoria.submit([(run, goal_submitted(goal, session="trip")) for run, goal in goals.items()])
        async with working(victoria, "aggregate"):
            await victoria.cancel("cancelled")
            await ends_of(results, "cancelled")
        results = await Results.from_now(victoria)
        async with working(victoria):
            ends = await ends_of(results, "failed", "completed")
        assert [(run, end.status) for run, end in ends.items()] == [("failed", "failed"), ("completed", "completed")]
        assert await seen_by(victoria, "completed") == ()
        view = await victoria.sessions.show("trip")
        assert view
        assert [each.run for each in view.said] == ["completed"]


async def test_a_goal_given_up_by_understand_does_not_stop_the_next(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    async with victoria_of(redis_url, prefix, tmp_path) as victoria:
        results = await Results.from_now(victoria)
        bad = msgspec.structs.replace(goal_submitted("hi", session="trip"), goal="")
        await victoria.submit([("bad", bad), ("good", goal_submitted(reading(2), session="trip"))])
        async with working(victoria):
            ends = await ends_of(results, "bad", "good")
        assert {run: end.status for run, end in ends.items()} == {"bad": "failed", "good": "completed"}


async def test_who_waits_for_a_turn_says_so_and_goes_on_when_that_is_cancelled(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    async with victoria_of(redis_url, prefix, tmp_path) as victoria:
        results = await Results.from_now(victoria)
        await victoria.submit([(run, goal_submitted(reading(3), session="trip")) for run in ("one", "two")])
        async with working(victoria, "understand"):

            async def said() -> bool:
                error = (await Standings(victoria).of("two")).error
                return bool(error and error.code == "session.turn" and "run one" in error.message)

            await eventually(said)
        await victoria.cancel("one")
        async with working(victoria):
            ends = await ends_of(results, "one", "two")
        assert ends["two"].status == "completed"
        assert not await victoria.client.exists(victoria.keys.waiting("two"))
