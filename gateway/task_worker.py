"""`victoria worker tasks`: the table of tasks, looked after and worked off."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from consumers.tasks.worker import NAME
from deploy.database import database_server, opened_database
from deploy.loading import Loaded
from deploy.tasks import task_parts
from deploy.victoria import Victoria
from gateway.figures import with_figures
from gateway.interrupt import stopping_on_signals, unless
from gateway.screen import note
from gateway.serve import end_of, settle_in


def work_off(loaded: Loaded, parent: int = 0) -> None:
    """Work until Ctrl-C, SIGTERM, or the end of the process `parent`, if it has one."""

    async def work(victoria: Victoria) -> None:
        async with stopping_on_signals() as stop, opened_database(loaded.settings, url) as database:
            worker = task_parts(victoria, database).worker
            settle_in()
            async with anyio.create_task_group() as at_work:
                await at_work.start(worker.run)
                note(f"ready: {NAME} (process {os.getpid()}){'' if parent else '; Ctrl-C stops'}")
                await unless(stop, lambda: end_of(parent))
                worker.stop()
            note(f"stopped: {NAME}")

    with database_server(loaded.settings) as url:
        with_figures(loaded, work)


@asynccontextmanager
async def worked_off(victoria: Victoria) -> AsyncGenerator[None]:
    """Inside, tasks are worked off beside whatever else this process does, where a database is configured. While that
    is away, or lacks its tables, all else goes on."""
    if victoria.database is None:
        yield
        return
    worker = task_parts(victoria, victoria.database).worker
    async with anyio.create_task_group() as at_work:
        await at_work.start(worker.run)
        yield
        worker.stop()
