"""`victoria chat`: talk with Victoria in a terminal, or in a pipe."""

import os
import secrets
import signal
import sys
from contextlib import AsyncExitStack
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consumers.intake import session_named
from deploy.fields import is_http_url
from deploy.loading import Loaded
from deploy.victoria import Victoria
from gateway.complain import Interrupted
from gateway.interrupt import interruptible
from gateway.options import Expert, Json, Strategy, configured, event_loop, with_victoria
from gateway.progress import Progress
from gateway.serve import served
from schemas.errors import InvalidInput

if TYPE_CHECKING:
    from gateway.chat.line import Line, Wish


@configured
def chat(
    loaded: Loaded,
    session: Annotated[
        str, typer.Option(metavar="ID", help="A conversation to go on with; by default a new one.", show_default=False)
    ] = "",
    project: Annotated[str, typer.Option(metavar="NAME", help="An allowed project; by default the main one.")] = "",
    strategy: Strategy = "",
    expert: Expert = "",
    url: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Talk to a door over HTTP, with the token of VICTORIA_TOKEN if it wants one, and start nothing.",
            show_default=False,
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Talk with Victoria: goals, their progress in place, answers, and questions answered in line.

    In a pipe each line is a turn of one session, and its answer goes to standard output; exit code 1 if one failed.

    Example: echo "List the files in the folder schemas" | victoria chat
    """
    from gateway.chat.line import Wish  # late, as all of the chat: it takes some tenths of a second

    known = bool(session)
    wish = Wish(session_named(session) or f"chat-{secrets.token_hex(4)}", strategy, expert, project)
    history = loaded.settings.state_dir / "chat-history"
    fit = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    on_terminal = fit and not as_json
    if url:
        if not is_http_url(url):
            raise InvalidInput("chat.url", f"{url[:200]!r} is no URL of a door.", "Write --url http://127.0.0.1:8010.")
        good = _over_http(url, loaded.settings.token, on_terminal, wish, history, known, as_json)
    else:

        async def work(victoria: Victoria) -> bool:
            from gateway.chat.streams import OnStreams

            victoria.engines.check(await victoria.engines.wanted())
            async with AsyncExitStack() as leaving:
                with Progress() as progress:
                    victoria.engines.progress = progress.download
                    await leaving.enter_async_context(served(victoria))
                    await victoria.require_model()
                return await _talk(OnStreams(victoria), wish, history, known=known, as_json=as_json, shown=on_terminal)

        good = with_victoria(loaded, work)
    if not good:
        raise typer.Exit(1)


def _over_http(
    url: str, token: str, on_terminal: bool, wish: "Wish", history: Path, known: bool, as_json: bool
) -> bool:
    from gateway.chat.over_http import NotAllowed, OverHttp

    async def work() -> bool:
        async with OverHttp.connected(url, token) as line:
            await line.status()
            return await _talk(line, wish, history, known=known, as_json=as_json, shown=on_terminal)

    try:
        return event_loop(work)
    except NotAllowed:
        if token or not on_terminal:
            raise
    token = getpass("Token: ")
    return event_loop(work)


async def _talk(to: "Line", wish: "Wish", history: Path, *, known: bool, as_json: bool, shown: bool) -> bool:
    if shown:
        from gateway.chat.talk import Talk

        async with interruptible(_interrupted, (signal.SIGTERM, signal.SIGHUP)):  # Ctrl-C is a key there
            await Talk(to, wish, history, known=known).go_on()
        return True
    from gateway.chat import plain

    async with interruptible(_interrupted):
        return await plain.talk(to, wish, as_json=as_json)


def _interrupted() -> Interrupted:
    return Interrupted("interrupted", "Interrupted; a run that is under way is kept.")
