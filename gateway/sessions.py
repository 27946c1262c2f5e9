"""`victoria sessions`: conversations, what was said in them, and forgetting it."""

from typing import Annotated, Any

import typer
from rich.table import Table

from consumers.intake import session_named
from consumers.session_memory.stored import ProjectMemory
from consumers.sessions import SessionRow, SessionView
from deploy.loading import Loaded
from deploy.victoria import Victoria
from gateway.options import Json, configured, with_victoria
from gateway.screen import OUT, answer, emit, line, listed, note, styled
from schemas.errors import InvalidInput

Id = Annotated[str, typer.Argument(metavar="ID", help="The session's id, as given by --session.")]

app = typer.Typer(name="sessions", help="List sessions, show what was said in one and what it keeps, or clear it.")


@app.callback(invoke_without_command=True, epilog="Example: victoria sessions show trip; victoria sessions clear trip")
@configured
def sessions(
    loaded: Loaded,
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List the sessions that had a turn last, the newest first; show what was said in one, or clear it."""
    if context.invoked_subcommand is not None:
        return

    async def work(victoria: Victoria) -> list[SessionRow]:
        return await victoria.sessions.newest(limit)

    found = with_victoria(loaded, work)
    listed(found, _table, as_json=as_json, without='no sessions; `victoria run --session ID "..."` begins one')


@app.command("show")
@configured
def show(loaded: Loaded, session: Id, as_json: Json = False) -> None:
    """Show what was said in a session, the newest last, and the runs in its line.

    Example: victoria sessions show trip
    """
    session_named(session)
    found = with_victoria(loaded, lambda victoria: known(victoria, session))
    if as_json:
        emit(found)
    else:
        _print(found)


@app.command("memory")
@configured
def memory(loaded: Loaded, session: Id, as_json: Json = False) -> None:
    """Show what a session keeps beside what was said, by projects, the newest last: its tags, and whose words it is.

    Example: victoria sessions memory trip --json
    """
    session_named(session)

    async def work(victoria: Victoria) -> list[ProjectMemory]:
        return await victoria.sessions.memory.all(session)

    found = with_victoria(loaded, work)
    if as_json:
        emit(found)
    for each in () if as_json else found:
        _speak((each.project, "bold"), (f"  {each.bytes:,} of {each.limit:,} bytes", "dim"))
        for item in each.items:
            _speak((f"{item.tag:<12}", "bold"), item.text, (f"  {item.trust} {item.source}", "dim"))
    if not (found or as_json):
        note(f"the session {session!r} keeps nothing yet")


@app.command("clear")
@configured
def clear(loaded: Loaded, session: Id, as_json: Json = False) -> None:
    """Forget what was said in a session so far, also in turns that have not ended, what it keeps, and who answered.

    Example: victoria sessions clear trip
    """
    session_named(session)

    async def work(victoria: Victoria) -> int:
        return await victoria.sessions.clear(session)

    cleared = with_victoria(loaded, work)
    if as_json:
        emit({"session": session, "cleared": cleared})
    else:
        answer(f"{cleared} exchange{'' if cleared == 1 else 's'} cleared")


async def known(victoria: Victoria, session: str) -> SessionView:
    """What is known of a session. Raises InvalidInput `session.unknown`, `session.too_long`."""
    found = await victoria.sessions.show(session_named(session))
    if found is None:
        hint = "`victoria sessions` lists them."
        raise InvalidInput("session.unknown", f"Nothing is known of a session {session!r}.", hint)
    return found


def _table(rows: list[SessionRow]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(overflow="fold")
    for _ in range(2):
        table.add_column(justify="right")
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_row(*(styled((name, "italic")) for name in ("session", "said", "in line", "expert", "last turn")))
    for row in rows:
        cells = (line(row.session), f"{row.said}", f"{row.line}", row.expert, f"{row.at.astimezone():%d %b %H:%M:%S}")
        table.add_row(*map(styled, cells))
    return table


def _print(found: SessionView) -> None:
    for said in found.said:
        _speak((said.run, "dim"))
        _speak(("you  ", "bold"), said.user)
        _speak(("     ", ""), said.assistant)
    if found.expert:
        _speak(("expert  ", "bold"), found.expert)
    for number, run_id in enumerate(found.line):
        _speak(("waits  " if number else "turn  ", "bold"), run_id)


def _speak(*parts: Any) -> None:
    OUT.print(styled(*parts), soft_wrap=True)
