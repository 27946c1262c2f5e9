"""What a worker sees to before it reads anything, and what its name tells."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import anyio

from schemas.events import Event, GoalSubmitted, GoalUnderstood
from streams.asking import NoModels
from streams.groups import create_groups
from streams.keys import Keys
from streams.stage import AnyStage, Stage
from streams.worker import Worker, is_gone
from tests.workshop import TERMS, Workshop, intake_stage, understood


def test_a_worker_of_this_machine_whose_process_ended_is_gone_and_any_other_may_live() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = socket.gethostname()
    assert is_gone(f"{host}-{ended.pid}-abcdef")
    assert not is_gone(f"{host}-{os.getpid()}-abcdef")
    assert not is_gone(f"elsewhere-{ended.pid}-abcdef")
    assert not is_gone("a name of somebody else's")
    assert not is_gone(f"{host}-²-abcdef")
    assert not is_gone(f"{host}-{'9' * 5000}-abcdef")


async def echo(event: GoalSubmitted, _ctx: Any) -> Sequence[Event]:
    return [understood(event.goal)]


async def silent(_event: GoalUnderstood, _ctx: Any) -> Sequence[Event]:
    return []


FIRST = intake_stage(echo)
LATER: AnyStage = Stage(name="later", reads="plan", accepts=(GoalUnderstood,), emits=(), handle=silent)


async def groups(workshop: Workshop) -> dict[tuple[str, str], bytes]:
    """Where each group of these stages begins, by partition and name."""
    found: dict[tuple[str, str], bytes] = {}
    for partition in workshop.keys.of_stream("intake"):
        for stage in (FIRST, LATER):
            for group in await workshop.client.xinfo_groups(workshop.keys.stream(partition, stage.reads)):
                found[partition, group["name"].decode()] = group["last-delivered-id"]
    return found


async def test_a_worker_makes_the_groups_of_stages_that_others_will_serve_before_it_produces(
    workshop: Workshop,
) -> None:
    workshop.keys = Keys(workshop.keys.prefix, 3)
    worker = Worker([FIRST.name], workshop.topology(FIRST, LATER), workshop.client, workshop.keys, NoModels(), TERMS)
    async with anyio.create_task_group() as tasks:
        await tasks.start(worker.run)
        assert set(await groups(workshop)) == {(p, name) for p in ("0", "1", "2") for name in ("understand", "later")}
        worker.stop()
    assert set((await groups(workshop)).values()) == {b"0-0"}


async def test_groups_that_are_there_stay_where_they_are_however_many_workers_start_at_once(
    workshop: Workshop,
) -> None:
    await workshop.publish("there before the group", "and another")
    topology = workshop.topology(FIRST, LATER)
    key = workshop.keys.stream("0", "intake")
    await workshop.client.xgroup_create(key, FIRST.name, id="$")
    before = await workshop.client.xinfo_groups(key)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(create_groups, workshop.client, workshop.keys, topology)
    assert await workshop.client.xinfo_groups(key) == before
    assert len(await groups(workshop)) == 2
