"""`victoria memory`: what runs left behind, found again, listed, forgotten."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import anyio
import typer

from consumers.answer_cache import clear
from consumers.memory import MOST, TEXT, Memory
from consumers.postgres.memories import Memories
from deploy.database import database_server, opened_database
from deploy.embedders import Embedders
from deploy.loading import Loaded
from deploy.projects import Projects
from deploy.wiring import Victoria
from gateway.options import Json, configured, event_loop, with_victoria
from gateway.screen import OUT, answer, emit, line, note, styled
from schemas.errors import InvalidInput
from streams.connection import reachable

R = TypeVar("R")

Project = Annotated[str, typer.Option(metavar="NAME", help="An allowed project; by default the main one.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, metavar="N", help="How many at most.")]

app = typer.Typer(
    name="memory",
    help="Search, list or forget what earlier runs left for later ones, and clear their answers.",
    no_args_is_help=True,
    epilog='Example: victoria memory search "Who looks after the database?"',
)


@app.command("search")
@configured
def search(
    loaded: Loaded,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What it is about, in any words.")],
    project: Project = "",
    session: Annotated[str, typer.Option(metavar="ID", help="Also what is known in this session only.")] = "",
    limit: Limit = MOST,
    as_json: Json = False,
) -> None:
    """Find memories by their words and by their meaning, the nearest first: those that a new run would be given.

    Example: victoria memory search "Who looks after the database?"
    """
    if not query.strip() or len(query) > TEXT:
        raise InvalidInput("memory.query", f"A query has 1 to {TEXT:,} characters.", "Say what it is about.")

    async def work(memories: Memories) -> list[Memory]:
        return await memories.search(project, session, query, limit)

    _show(_with_memories(loaded, project, work), "nothing is known of that", as_json=as_json)


@app.command("list")
@configured
def listing(
    loaded: Loaded,
    project: Project = "",
    session: Annotated[
        str | None, typer.Option(metavar="ID", help="Only what runs of this session see.", show_default=False)
    ] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List a project's memories, the newest first.

    Example: victoria memory list --limit 50
    """

    async def work(memories: Memories) -> list[Memory]:
        return await memories.listed(project, session, limit)

    _show(_with_memories(loaded, project, work), "nothing is remembered", as_json=as_json)


@app.command("forget")
@configured
def forget(
    loaded: Loaded,
    memory: Annotated[str, typer.Argument(metavar="ID", help="Its id, as `victoria memory list` shows it.")],
    as_json: Json = False,
) -> None:
    """Forget a memory for good.

    Example: victoria memory forget 0f9c2f1e
    """

    async def work(memories: Memories) -> bool:
        return await memories.forget(memory)

    if not _with_memories(loaded, "", work):
        raise InvalidInput(
            "memory.unknown", f"There is no memory {memory[:80]!r}.", "`victoria memory list` shows their ids."
        )
    if as_json:
        emit({"id": memory, "forgotten": True})
    else:
        answer(f"{memory} is forgotten")


@app.command("clear-answers")
@configured
def clear_answers(loaded: Loaded, project: Project = "", as_json: Json = False) -> None:
    """Forget all answers of a project that would be given again to the same goals.

    Example: victoria memory clear-answers
    """

    async def work(victoria: Victoria) -> tuple[str, int]:
        name = victoria.projects.require(project or victoria.projects.main)
        with reachable(victoria.url):
            return name, await clear(victoria.client, victoria.keys, name)

    name, cleared = with_victoria(loaded, work)
    if as_json:
        emit({"project": name, "cleared": cleared})
    else:
        answer(f"{cleared} answer{'' if cleared == 1 else 's'} of {name} cleared")


def _with_memories(loaded: Loaded, project: str, work: Callable[[Memories], Awaitable[R]]) -> R:
    settings = loaded.settings
    projects = Projects.from_settings(settings, loaded.root)
    if project:
        projects.require(project)

    async def do() -> R:
        embedders = Embedders(settings)
        try:
            async with opened_database(settings, url) as database:
                await embedders.look()
                return await work(Memories(database, lambda: embedders.present, projects.resolve))
        finally:
            with anyio.CancelScope(shield=True):
                await embedders.close()

    with database_server(settings) as url:
        return event_loop(do)


def _show(found: list[Memory], nothing: str, *, as_json: bool) -> None:
    if as_json:
        emit(found)
        return
    for each in found:
        where = f"session {line(each.session)}" if each.session else each.project
        about = ", ".join(
            filter(
                None, (where, each.tag, f"trust {each.trust}", each.source, f"{each.at.astimezone():%d %b %Y %H:%M}")
            )
        )
        OUT.print(styled((f"{each.id}  ", "bold"), (line(about), "dim")), soft_wrap=True)
        OUT.print(styled(f"  {each.text}"), soft_wrap=True)
    if not found:
        note(nothing)
