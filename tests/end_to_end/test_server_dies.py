"""The server itself is killed in mid-run: workers wait, and go on when it is back."""

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import uvloop
from redis.exceptions import RedisError

from deploy.embedded import embedded
from deploy.place import listener
from schemas.events import Event, GoalSubmitted
from streams.connection import connect
from streams.keys import Keys
from tests.workshop import QUICK, Workshop, eventually, intake_stage, understood


def test_workers_go_on_when_a_killed_server_is_back_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    loop = asyncio.Runner(loop_factory=uvloop.new_event_loop)  # not anyio's run: fixtures of others may hold it
    with embedded(tmp_path / "state") as url, loop:
        loop.run(killed_in_mid_run(url))


async def killed_in_mid_run(url: str) -> None:
    handled: list[str] = []

    async def slow(event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        async def act(goal: str, _key: str) -> str:
            handled.append(goal)
            return goal

        await ctx.call("act", act, event.goal, str)
        await anyio.sleep(0.05)
        return [understood(event.goal)]

    client: Any = connect(url)
    workshop = Workshop(client, Keys("test"))

    async def results(count: int) -> bool:
        try:
            return len(await workshop.entries("results")) >= count
        except RedisError:
            return False

    async with workshop.working(intake_stage(slow)):
        await workshop.publish(*[f"goal {n}" for n in range(600)])
        await eventually(lambda: results(100))
        await client.config_set("appendfsync", "always")  # so that the test may count to the last event
        pid = listener(Path(url.removeprefix("unix://")))
        assert pid
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: results(600), within=30)

    entries = await workshop.entries("results")
    assert len({entry.envelope.run for entry in entries if entry.envelope}) == len(entries) == 600
    assert await workshop.entries("dead") == []
    # Only what was under way when the server died, and so not recorded, may have been done again.
    assert len(set(handled)) == 600
    assert len(handled) <= 600 + QUICK.concurrency
    await client.aclose()
