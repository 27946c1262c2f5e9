"""`victoria runs`: which runs there were, and how they stand."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, get_args

import anyio
import typer
from rich.cells import cell_len

from consumers.postgres.database import Database
from consumers.runs.listed import LONG_AGO, LOOKED, Listed, Listing, RunRow, Which
from deploy.database import database_server
from deploy.loading import Loaded
from deploy.settings import Settings
from deploy.victoria import Victoria
from gateway.lag_screen import span
from gateway.options import Json, configured, with_victoria
from gateway.screen import OUT, emit, fit, note, styled
from schemas.errors import CouldNotStart, InvalidInput, NotReachable
from schemas.plan import RunStatus
from streams.ranges import parse

STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)
ROOM = 40
"""Cells for a goal, with less it has a line of its own."""


@configured
def runs(
    loaded: Loaded,
    status: Annotated[str, typer.Option(metavar="NAME", help=f"Only those: {', '.join(STATUSES)}.")] = "",
    project: Annotated[str, typer.Option(metavar="NAME", help="Only those of this project.")] = "",
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Only those submitted since then: 1h, 2d, 2026-11-21T10:00.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List runs, the newest first: from history where it is kept, else as far as the streams go back.

    Each with its status, its age, the seconds it took, its strategy and expert, and its goal. --json prints a line of
    JSON for each.

    Example: victoria runs --status failed --since 1h
    """
    if status and status not in STATUSES:
        raise InvalidInput("run.status", f"There is no status {status[:80]!r}.", f"There are {', '.join(STATUSES)}.")
    start = _since(since)

    async def work(victoria: Victoria) -> Listed:
        which = Which(status, _stored_as(victoria, project), start)
        if url:
            database = Database(url, loaded.settings.prefix)
            try:
                return await Listing(victoria.client, victoria.keys, database).newest(which, limit)
            except NotReachable as problem:
                _without_history(problem)
            finally:
                with anyio.CancelScope(shield=True):
                    await database.close()
        return await Listing(victoria.client, victoria.keys).newest(which, limit)

    with _history(loaded.settings) as url:
        found = with_victoria(loaded, work)
    now = datetime.now(UTC)
    for row in found.rows:
        if as_json:
            emit(row)
        else:
            _print(row, now)
    if not found.whole:
        note(f"only the newest {LOOKED:,} were looked at", "yellow")
    elif not found.rows and not as_json:
        note("no such runs")


@contextmanager
def _history(settings: Settings) -> Generator[str]:
    """The URL of the database that has history, "" where none is kept."""
    if not settings.database_url and not (settings.history and (settings.state_dir / "postgres").is_dir()):
        yield ""
        return
    server = database_server(settings)
    try:
        url = server.__enter__()
    except CouldNotStart as problem:
        _without_history(problem)
        yield ""
        return
    try:
        yield url
    finally:
        server.__exit__(None, None, None)


def _without_history(problem: NotReachable | CouldNotStart) -> None:
    note(f"only what the streams have, without history: {problem.message} {problem.hint}", "yellow")


def _since(text: str) -> datetime:
    """A time, or how long ago it was. Raises InvalidInput `runs.since`."""
    if not text:
        return LONG_AGO
    for said in (f"@-{text.strip()}", f"@{text.strip()}"):
        try:
            return datetime.fromtimestamp(parse(said).first.ms / 1000, UTC)
        except InvalidInput:
            continue
    raise InvalidInput("runs.since", f"{text[:80]!r} is no time.", "Write 90s, 1h, 2d, or 2026-11-21T10:00.")


def _stored_as(victoria: Victoria, project: str) -> tuple[str, ...]:
    """How runs of a project may name it; nothing for any."""
    if not project:
        return ()
    return (project, "") if project == victoria.projects.main else (project,)


def _print(row: RunRow, now: datetime) -> None:
    age = span(max(0.0, (now - row.submitted_at).total_seconds()))
    took = "" if row.seconds is None else f"{row.seconds:.2f} s"
    by = fit(" · ".join(filter(None, (row.strategy, row.expert))), ROOM)
    head = f"{fit(row.id, 80):<32}  {row.status:<9}  {age:>5}  {took:>9}  "
    room = OUT.width - cell_len(head + by) - 2
    goal = f"  {fit(row.goal, room)}" if room >= ROOM else f"\n  {fit(row.goal, max(OUT.width - 2, ROOM))}"
    colour = {"failed": "red", "completed": "green"}.get(row.status, "")
    OUT.print(styled((head, colour), by, (goal, "dim")), soft_wrap=True)
