"""`victoria serve`: the HTTP door, and all stages that nobody else serves."""

from contextlib import AsyncExitStack
from typing import Annotated

import msgspec
import typer

from consumers.experts.expert import FOLDER
from consumers.experts.roster import Folders
from deploy.loading import Loaded
from deploy.victoria import Victoria
from gateway.experts import one_of
from gateway.history import kept
from gateway.interrupt import stopping_on_signals, unless
from gateway.listening import listening
from gateway.options import configured, with_victoria
from gateway.screen import note
from gateway.serve import load, missing_stages, served, settle_in, warn


@configured
def serve(
    loaded: Loaded,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="By default the setting http_host.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65_535, metavar="PORT", help="By default the setting http_port; 0 is any.", show_default=False
        ),
    ] = None,
    alone: Annotated[bool, typer.Option("--alone", metavar="", help="Serve HTTP only; workers run elsewhere.")] = False,
) -> None:
    """Serve HTTP until SIGTERM or Ctrl-C, and all stages that nobody else serves; keep history in the database.

    Example: victoria serve --port 8020
    """
    from gateway.http import server  # late: importing it takes 0.2 s

    given = {"http_host": host, "http_port": port}
    settings = msgspec.structs.replace(loaded.settings, **{k: v for k, v in given.items() if v is not None})
    one_of(Folders(FOLDER, settings.experts_dir).roster(), settings.agent)

    async def work(victoria: Victoria) -> None:
        async with stopping_on_signals() as stop, AsyncExitStack() as leaving:
            await server.require_tokens(victoria, listener)
            warn(victoria)
            if not alone:
                missing = await missing_stages(victoria)
                if not await unless(stop, lambda: load(victoria, missing)):
                    return
                await leaving.enter_async_context(served(victoria, grace=settings.grace))
                await leaving.enter_async_context(kept(victoria))
            settle_in()
            await server.serve(victoria, listener, settings.agent, stop)
            note("stopped")

    with listening(settings.http_host, settings.http_port) as listener:
        with_victoria(msgspec.structs.replace(loaded, settings=settings), work, measured=True)
