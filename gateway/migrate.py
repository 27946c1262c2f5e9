"""`victoria migrate`: the database's tables as this version needs them."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from consumers.postgres.bring import Brought, bring
from consumers.postgres.database import Database
from consumers.postgres.migrate import Standing, standing
from consumers.postgres.migrate import migrate as apply
from deploy.database import database_server
from deploy.loading import Loaded
from deploy.victoria import Victoria
from gateway.options import Json, configured, event_loop, with_victoria
from gateway.screen import OUT, emit, styled
from schemas.errors import InvalidInput

R = TypeVar("R")

MARKS = {"applied": "✓", "pending": "·", "waiting": "·", "changed": "✗", "unknown": "?"}


@configured
def migrate(
    loaded: Loaded,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Do it and undo it again, to see that it works.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", metavar="", help="Show where each one stands.")] = False,
    records: Annotated[
        bool, typer.Option("--records", metavar="", help="Then bring notes and calendars over from Redis.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring the tables of the database, by default the embedded one, to this version.

    Any number may be started at once, and killed: each migration is applied once and whole. With DATABASE_URL set,
    notes and calendars are kept in that database; --records moves there what was kept on Redis before.

    Example: victoria migrate --status
    """

    async def work(database: Database) -> tuple[list[Standing], list[str]]:
        applied = [] if status else await apply(database, dry_run=dry_run)
        stand = await standing(database)
        return stand if status else applied, [each.name for each in stand if each.state == "unknown"]

    if records and (status or dry_run or not loaded.settings.database_url):
        raise InvalidInput(
            "records.nowhere",
            "Records are brought to the database of DATABASE_URL, and for good.",
            "Set it, and leave --status and --dry-run out.",
        )
    found, newer = _with_database(loaded, work)
    brought = with_victoria(loaded, _bring) if records else None
    if as_json:
        emit({"migrations": found, **({"records": brought._asdict()} if brought else {})})
        return
    for each in found:
        what = "would be applied" if dry_run else each.state
        when = f" {each.applied_at:%Y-%m-%d %H:%M} UTC" if each.applied_at else ""
        OUT.print(styled(f"{MARKS[each.state]} {each.name} {what}{when}", (f"  {each.note}" * bool(each.note), "dim")))
    if newer:
        OUT.print(f"A newer version of Victoria has applied {', '.join(newer)}.")
    elif not found:
        OUT.print("Nothing to do: the tables are those of this version.")
    if brought:
        left = f"; {brought.unreadable} can't be read, and stay on Redis" if brought.unreadable else ""
        OUT.print(f"✓ {brought.records} records brought over{left}")


async def _bring(victoria: Victoria) -> Brought:
    assert victoria.database  # noqa: S101 - its URL is set
    return await bring(victoria.client, victoria.keys, victoria.database)


def _with_database(loaded: Loaded, work: Callable[[Database], Awaitable[R]]) -> R:
    async def do() -> R:
        database = Database(url, loaded.settings.prefix)
        try:
            return await work(database)
        finally:
            await database.close()

    with database_server(loaded.settings) as url:
        return event_loop(do)
