"""The whole way of a goal: published to intake, handled by every stage in turn, answered on results."""

from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from consumers.intake import goal_submitted
from deploy.loading import load
from deploy.victoria import Victoria
from deploy.wiring import opened
from schemas.events import Event, RunFinished
from streams.asking import NoModels
from streams.follow import follow
from streams.stage import Context, Stage
from streams.topology import Topology
from streams.worker import Terms, Worker


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "monday.txt").write_text("Rain.")
    return tmp_path


async def the_end_of(victoria: Victoria, run: str) -> RunFinished:
    with anyio.fail_after(10):
        async for batch in follow(victoria.client, {victoria.keys.stream("0", "results"): "0-0"}):
            for entry in batch:
                if entry.envelope and entry.envelope.run == run and isinstance(entry.envelope.body, RunFinished):
                    return entry.envelope.body
    raise AssertionError("follow goes on for ever")


async def test_a_goal_goes_through_all_stages_and_comes_back_answered(
    redis_url: str, prefix: str, project: Path
) -> None:
    loaded = load({"redis_url": redis_url, "prefix": prefix, "model": "none"}, environ={}, folder=project)
    async with opened(loaded, redis_url) as victoria, anyio.create_task_group() as tasks:
        worker = victoria.worker(await victoria.needed())
        await tasks.start(worker.run)

        await victoria.submit([("run-1", goal_submitted("What files are in the folder notes?"))])
        end = await the_end_of(victoria, "run-1")

        assert (end.status, end.output) == ("completed", "monday.txt")
        assert [stage.stage for stage in end.stages] == ["understand", "plan", "step-execute", "aggregate"]
        assert (await victoria.view("run-1")).status == "completed"
        worker.stop()


async def test_a_new_stage_is_a_function_and_one_line_in_the_topology(
    redis_url: str, prefix: str, project: Path
) -> None:
    told: list[str] = []

    async def tell(text: str, _key: str) -> None:
        told.append(text)

    async def handle(event: RunFinished, ctx: Context[None]) -> Sequence[Event]:
        await ctx.call("tell", tell, f"{ctx.run_id}: {event.output}", type(None), effects="unknown")
        return []

    notify = Stage(name="notify", reads="results", accepts=(RunFinished,), emits=(), handle=handle)

    loaded = load({"redis_url": redis_url, "prefix": prefix, "model": "none"}, environ={}, folder=project)
    async with opened(loaded, redis_url) as victoria, anyio.create_task_group() as tasks:
        usual = victoria.topology
        topology = Topology((*usual.stages, notify), usual.entries, usual.results)
        stages = [*await victoria.needed(), "notify"]
        worker = Worker(stages, topology, victoria.client, victoria.keys, NoModels(), Terms())
        await tasks.start(worker.run)

        await victoria.submit([("run-2", goal_submitted("Read notes/monday.txt"))])
        with anyio.fail_after(10):
            while not told:
                await anyio.sleep(0.01)

        assert told == ["run-2: Rain."]
        worker.stop()
