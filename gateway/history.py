"""History: what all streams say, written to the database beside whatever else this process does."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import structlog

from consumers.postgres.database import Database
from consumers.postgres.projector import Projector
from deploy.database import database_server, opened_database
from deploy.victoria import Victoria
from gateway.complain import leaves
from gateway.screen import note
from schemas.errors import VictoriaError
from streams.connection import TROUBLE
from streams.groups import FOLLOWER, create_groups

AGAIN = 5.0
"""Seconds between tries to reach a database that is away, or not migrated yet."""

_log = structlog.get_logger()


def projector(victoria: Victoria, database: Database) -> Projector:
    """Who writes it, as the settings say."""
    s = victoria.settings
    writing = Projector(victoria.client, victoria.keys, victoria.topology, database, s.keep, s.keep_archive)
    if victoria.figures:
        victoria.figures.written = lambda: writing.written
    return writing


@asynccontextmanager
async def kept(victoria: Victoria) -> AsyncGenerator[None]:
    """Inside, history is kept, unless the settings say otherwise. All else goes on while the database is away, or is
    still starting; what could not be written by then waits on the streams."""
    if not victoria.settings.history:
        yield
        return
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_keep, victoria, stop)
        try:
            yield
        finally:
            stop.set()


async def _keep(victoria: Victoria, stop: anyio.Event) -> None:
    """Keep history until told to stop. What keeps it from beginning is told once."""
    with anyio.CancelScope(shield=True):  # it ends by itself, and the embedded server is given back
        async with AsyncExitStack() as leaving:
            server = database_server(victoria.settings)
            try:
                url = await anyio.to_thread.run_sync(server.__enter__)
            except VictoriaError as problem:
                note(f"no history is kept: {problem.message} {problem.hint}", "yellow")
                return
            leaving.push_async_callback(anyio.to_thread.run_sync, server.__exit__, None, None, None)
            told = ""
            while not stop.is_set():
                try:
                    # First of all: what comes on the streams from now on waits for the database, however long that is.
                    await create_groups(victoria.client, victoria.keys, victoria.topology, follower=FOLLOWER)
                    await _project(victoria, url, stop)
                except* (VictoriaError, *TROUBLE) as problems:
                    problem = next(leaves(problems, Exception))
                    if str(problem) != told:
                        _log.warning("history.trouble", error=str(problem))
                        if isinstance(problem, VictoriaError):
                            note(f"no history is kept for now: {problem.message} {problem.hint}", "yellow")
                    told = str(problem)
                with anyio.move_on_after(AGAIN):
                    await stop.wait()


async def _project(victoria: Victoria, url: str, stop: anyio.Event) -> None:
    async with opened_database(victoria.settings, url) as database, anyio.create_task_group() as at_work:
        writing = projector(victoria, database)
        await at_work.start(writing.run)
        await stop.wait()
        writing.stop()
