"""`victoria migrate`: the database's tables as this version needs them."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from consumers.postgres.database import Database
from consumers.postgres.migrate import Standing, standing
from consumers.postgres.migrate import migrate as apply
from deploy.database import database_server
from deploy.settings import Loaded
from gateway.options import Json, configured, event_loop
from gateway.screen import OUT, emit, styled

MARKS = {"applied": "✓", "pending": "·", "waiting": "·", "changed": "✗", "unknown": "?"}


@configured
def migrate(
    loaded: Loaded,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Do it and undo it again, to see that it works.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", metavar="", help="Show where each one stands.")] = False,
    as_json: Json = False,
) -> None:
    """Bring the tables of the database, by default the embedded one, to this version.

    Any number may be started at once, and killed: each migration is applied once and whole.

    Example: victoria migrate --status
    """

    async def work(database: Database) -> list[Standing]:
        return await (standing(database) if status else apply(database, dry_run=dry_run))

    found = _with_database(loaded, work)
    if as_json:
        emit(found)
        return
    for each in found:
        what = "would be applied" if dry_run else each.state
        when = f" {each.applied_at:%Y-%m-%d %H:%M} UTC" if each.applied_at else ""
        OUT.print(styled(f"{MARKS[each.state]} {each.name} {what}{when}", (f"  {each.note}" * bool(each.note), "dim")))
    if not found:
        OUT.print("Nothing to do: the tables are those of this version.")


def _with_database(loaded: Loaded, work: Callable[[Database], Awaitable[list[Standing]]]) -> list[Standing]:
    async def do() -> list[Standing]:
        database = Database(url, loaded.settings.prefix)
        try:
            return await work(database)
        finally:
            await database.close()

    with database_server(loaded.settings) as url:
        return event_loop(do)
