"""`victoria worker project` and `victoria project`: what all streams say, written to the database, and made anew."""

import os
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import anyio
import typer

from consumers.postgres.database import Database
from consumers.postgres.journals import released
from consumers.postgres.projector import NAME
from consumers.postgres.rebuild import Rebuild
from consumers.postgres.rebuild import rebuild as rebuild_all
from deploy.database import database_server, opened_database
from deploy.loading import Loaded
from deploy.victoria import Victoria
from gateway.complain import Interrupted
from gateway.figures import with_figures
from gateway.history import projector
from gateway.interrupt import interruptible, stopping_on_signals, unless
from gateway.options import Json, configured, with_victoria
from gateway.progress import Progress
from gateway.screen import answer, emit, note
from gateway.serve import end_of, settle_in
from schemas.errors import InvalidInput
from streams.groups import unfollow

T = TypeVar("T")

app = typer.Typer(
    name="project",
    help="Look after what is written to the database.",
    epilog="Example: victoria project rebuild",
)


@app.callback(invoke_without_command=True)
def choose(context: typer.Context) -> None:
    """Look after what is written to the database; `victoria worker project` writes it."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


@app.command("rebuild")
@configured
def rebuild(
    loaded: Loaded,
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Don't ask.")] = False,
    as_json: Json = False,
) -> None:
    """Drop the tables runs, steps and answers, and fold them again from the archive and the streams.

    Readers see the old ones until the new ones are whole. Workers and projectors go on meanwhile; killed in the middle,
    it has changed nothing.

    Example: victoria project rebuild --yes
    """
    _confirmed("rebuild", "Rebuild runs, steps and answers from the archive and the streams?", yes=yes)

    async def work(victoria: Victoria, database: Database) -> Rebuild:
        def tell(what: str, done: int, total: int) -> None:
            progress.waiting(f"{done:,} of {total:,} {what}")

        with Progress() as progress:
            async with interruptible(lambda: Interrupted("interrupted", "Interrupted; nothing was changed.")):
                return await rebuild_all(
                    victoria.client, victoria.keys, victoria.topology, database, loaded.settings.keep, tell
                )

    done = _with_database(loaded, work)
    if as_json:
        emit(done)
        return
    for each in done.tables:
        same = "as before" if each.before == each.after else f"before {each.before}"
        answer(f"✓ {each.table:<8} {each.rows:>9,} rows  checksum {each.after}, {same}; {each.changed:,} changed")
    answer(f"{done.events:,} events folded")
    if done.unreadable:
        note(f"{done.unreadable:,} are of a type or version unknown here, and left out", "yellow")


@app.command("stop")
@configured
def stop(
    loaded: Loaded,
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Don't ask.")] = False,
    as_json: Json = False,
) -> None:
    """Keep no history any more: what is not written yet will not be, and streams and journals wait for nobody.

    What is in the database stays. Set VICTORIA_HISTORY=false first, or `up` and `serve` begin anew with what is there.

    Example: victoria project stop --yes
    """
    _confirmed("stop", "Keep no history any more, and let go of what is not written yet?", yes=yes)

    async def work(victoria: Victoria) -> int:
        await unfollow(victoria.client, victoria.keys, victoria.topology)
        return await released(victoria.client, victoria.keys, loaded.settings.keep)

    journals = with_victoria(loaded, work)
    if as_json:
        emit({"journals": journals})
    else:
        answer(f"nobody follows the streams; {journals:,} journals of ended runs go in {loaded.settings.keep:,.0f} s")


def _confirmed(what: str, question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInput(f"{what}.unconfirmed", "Nobody is here to be asked.", "Say --yes.")
    typer.confirm(question, abort=True, err=True)


def project(loaded: Loaded, parent: int = 0) -> None:
    """Project until Ctrl-C, SIGTERM, or the end of the process `parent`, if it has one."""

    async def work(victoria: Victoria, database: Database) -> None:
        async with stopping_on_signals() as stop:
            writing = projector(victoria, database)
            settle_in()
            async with anyio.create_task_group() as at_work:
                await at_work.start(writing.run)
                note(f"ready: {NAME} (process {os.getpid()}){'' if parent else '; Ctrl-C stops'}")
                await unless(stop, lambda: end_of(parent))
                writing.stop()
            note(f"stopped: {NAME}")

    _with_database(loaded, work, figures=True)


def _with_database(loaded: Loaded, work: Callable[[Victoria, Database], Awaitable[T]], *, figures: bool = False) -> T:
    async def do(victoria: Victoria) -> T:
        async with opened_database(loaded.settings, url) as database:
            return await work(victoria, database)

    with database_server(loaded.settings) as url:
        return with_figures(loaded, do) if figures else with_victoria(loaded, do)
