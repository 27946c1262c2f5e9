"""`victoria worker project`: what all streams say, written to the database."""

import os

import anyio

from consumers.postgres.projector import NAME, Projector
from deploy.database import database_server, opened_database
from deploy.settings import Loaded
from deploy.wiring import Victoria
from gateway.interrupt import stopping_on_signals, unless
from gateway.options import with_victoria
from gateway.screen import note
from gateway.serve import end_of, settle_in


def project(loaded: Loaded, parent: int = 0) -> None:
    """Project until Ctrl-C, SIGTERM, or the end of the process `parent`, if it has one."""

    async def work(victoria: Victoria) -> None:
        async with stopping_on_signals() as stop, opened_database(loaded.settings, url) as database:
            projector = Projector(victoria.client, victoria.keys, victoria.topology, database)
            settle_in()
            async with anyio.create_task_group() as at_work:
                await at_work.start(projector.run)
                note(f"ready: {NAME} (process {os.getpid()}){'' if parent else '; Ctrl-C stops'}")
                await unless(stop, lambda: end_of(parent))
                projector.stop()
            note(f"stopped: {NAME}")

    with database_server(loaded.settings) as url:
        with_victoria(loaded, work)
