"""The real topology, on every server: a goal goes in, its answer comes out, and a stopped worker leaves nothing."""

from pathlib import Path
from typing import Any

import anyio

from consumers.intake import goal_submitted
from deploy.loading import load
from deploy.wiring import opened
from gateway.submit import Results
from schemas.events import RunFinished
from streams.connection import Client
from streams.keys import Keys
from tests.end_to_end.conftest import Processes
from tests.workshop import Workshop, eventually

STAGES = {"understand": "intake", "plan": "plan", "step-execute": "step-execute", "aggregate": "aggregate"}


async def test_goals_in_all_partitions_are_answered_and_their_ends_followed(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    (tmp_path / "only.txt").touch()
    given = {"redis_url": redis_url, "prefix": prefix, "model": "none", "partitions": "3"}
    async with opened(load(given, environ={}, folder=tmp_path), redis_url) as victoria, anyio.create_task_group() as at:
        worker = victoria.worker(await victoria.needed())
        await at.start(worker.run)
        assert set((await victoria.live()).values()) == {0, 1}, "a worker for each stage, but none for models"
        results = await Results.from_now(victoria)
        runs = [f"run-{number}" for number in range(12)]
        await victoria.submit([(run, goal_submitted("List the files here")) for run in runs])
        ends: dict[str, str] = {}
        with anyio.fail_after(10):
            async for seen in results.of(runs):
                if seen.envelope and isinstance(seen.envelope.body, RunFinished):
                    ends[seen.envelope.run] = seen.envelope.body.output
        assert ends == dict.fromkeys(runs, "only.txt")
        assert {(await victoria.view(run)).status for run in runs} == {"completed"}
        worker.stop()


async def test_a_worker_told_to_end_leaves_nothing_pending(processes: Processes, client: Client, prefix: str) -> None:
    keys = Keys(prefix, partitions=2)
    workshop = processes.workshop = Workshop(client, keys)
    processes.environ |= {"VICTORIA_MODEL": "none", "VICTORIA_PARTITIONS": "2"}
    runs = await workshop.publish(*["List the files in the folder docs"] * 2_000)
    processes.start(*STAGES)
    await eventually(lambda: workshop.client.exists(keys.stream("0", "results")), within=60)
    assert set(processes.stop_all().values()) == {0}

    ended = [entry for p in ("0", "1") for entry in await workshop.entries("results", p) if entry.type == "RunFinished"]
    assert len(ended) < len(runs), "there was work left when it ended"
    for stage, stream in STAGES.items():
        for partition in keys.of_stream(stream):
            summary: Any = await client.xpending(keys.stream(partition, stream), stage)
            assert summary["pending"] == 0
            assert await client.zcard(keys.leases(partition, stage)) == 0
