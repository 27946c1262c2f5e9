"""Stages at work in this process: all that are wanted, or those that nobody else serves."""

import gc
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import msgspec

from consumers.offers import backend_of
from consumers.topology import AFTERWARDS
from deploy.victoria import Victoria, backends_of, foreground
from gateway.interrupt import stopping_on_signals, unless
from gateway.progress import Progress
from gateway.screen import ERR, note
from streams.connection import TROUBLE
from streams.worker import Worker

LOOK_EVERY = 2.0
"""Seconds between looks for stages that nobody serves any more."""
GRACE = 1.0
"""Seconds at most that a door's own stages keep the user waiting at the end."""


async def serve(victoria: Victoria, stages: Sequence[str], parent: int = 0) -> None:
    """Run stages in this process until Ctrl-C, SIGTERM, or the end of the process `parent`, if it has one."""
    async with stopping_on_signals() as stop:
        if not await unless(stop, lambda: load(victoria, stages)):
            return
        warn(victoria)
        worker = victoria.worker(stages)
        settle_in()
        async with anyio.create_task_group() as at_work:
            await at_work.start(worker.run)
            note(f"ready: {', '.join(foreground(stages))} (process {os.getpid()}){'' if parent else '; Ctrl-C stops'}")
            await unless(stop, lambda: end_of(parent))
            if ERR.is_terminal:
                note("stopping; Ctrl-C again does not wait for what is in hand")
            worker.stop()
        note(f"stopped: {', '.join(foreground(stages))}")


def warn(victoria: Victoria) -> None:
    """Say what can cost events on this server."""
    if victoria.evicts:
        note(
            f"the server may evict streams when its memory is full: set its maxmemory-policy ({victoria.evicts}) "
            "to noeviction",
            "red",
        )


def settle_in() -> None:
    """Before lasting work: what is in memory now stays, so the garbage collector need not look at it again and again,
    which otherwise takes a tenth of a busy worker's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def missing_stages(victoria: Victoria) -> list[str]:
    """The stages that must be started for runs to go on: of the inference consumers none, as long as there is one."""
    live = await victoria.live()
    stages = [stage for stage in foreground(await victoria.needed()) if stage not in AFTERWARDS]
    asked = any(live[stage] for stage in stages if backend_of(stage))
    return [stage for stage in stages if not live[stage] and not (asked and backend_of(stage))]


async def load(victoria: Victoria, stages: Sequence[str]) -> None:
    """Load what these stages need, and show how that goes on. Raises CouldNotStart."""
    if backends_of(stages):
        victoria.engines.warm()
        with Progress() as progress:
            victoria.engines.progress = progress.download
            progress.waiting("loading the model")
            await victoria.ready(stages)


async def end_of(parent: int) -> None:
    """Wait for the end of the process `parent`; for ever, if it is 0."""
    if not parent:
        await anyio.sleep_forever()
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing signals it everywhere
        await anyio.sleep(1)


@asynccontextmanager
async def served(victoria: Victoria, only: Callable[[str], object] = str, grace: float = GRACE) -> AsyncGenerator[None]:
    """Inside, every stage that no other process serves, or ceases to serve, is served by this one; of those that these
    settings need, or `only` some of them. At the end they have `grace` seconds to finish what they hold."""
    hasty = replace(victoria, settings=msgspec.structs.replace(victoria.settings, grace=grace))
    workers: list[Worker] = []
    async with anyio.create_task_group() as at_work:

        async def work(worker: Worker, *, task_status: anyio.abc.TaskStatus[None]) -> None:
            # Shielded: whatever ends the context, a worker gives up its leases, so that others need not wait for them.
            with anyio.CancelScope(shield=True):
                await worker.run(task_status=task_status)

        async def look(*, first: bool = False) -> None:
            live = await victoria.live()
            if missing := [stage for stage in await victoria.needed() if only(stage) and not live[stage]]:
                if first and victoria.engines.wish.engine:  # it was named: without it there is no use in beginning
                    await victoria.ready(missing)
                workers.append(hasty.worker(missing))
                await at_work.start(work, workers[-1])

        async def keep_looking() -> None:
            while True:
                await anyio.sleep(LOOK_EVERY)
                try:
                    await look()
                except TROUBLE:
                    continue  # who awaits results hears of it

        try:
            warn(victoria)
            await look(first=True)
            async with anyio.create_task_group() as watching:
                watching.start_soon(keep_looking)
                yield
                watching.cancel_scope.cancel()
        finally:
            for worker in workers:
                worker.stop()
