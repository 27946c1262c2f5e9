"""Options that every command shares, and what they lead to: settings, a server, an opened Victoria."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import anyio
import typer

from deploy.settings import Loaded, load
from deploy.wiring import Victoria, opened, server
from gateway.logs import configure
from schemas.errors import InvalidInput

R = TypeVar("R")

RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url", metavar="URL", help="The server to use; by default the embedded one.", show_default=False
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="auto, local, or none for rules alone.", show_default=False),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any other setting; `victoria config` lists them.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def loaded_settings(redis_url: str | None, model: str | None, more: list[str] | None) -> Loaded:
    """Settings with these flags on top. Raises InvalidInput."""
    flags: dict[str, str | None] = {"redis_url": redis_url, "model": model}
    for item in more or []:
        key, sign, value = item.partition("=")
        if not sign:
            raise InvalidInput("settings.invalid", f"--set {item!r} has no value.", "Write --set KEY=VALUE.")
        flags[key.strip()] = value
    loaded = load({key: value for key, value in flags.items() if value is not None})
    configure(loaded.settings.log_level)
    return loaded


def with_victoria(loaded: Loaded, work: Callable[[Victoria], Awaitable[R]]) -> R:
    """Do `work` on an opened Victoria, with the embedded server running where no other is configured."""
    with server(loaded.settings) as url:
        return event_loop(_opened, loaded, url, work)


async def _opened(loaded: Loaded, url: str, work: Callable[[Victoria], Awaitable[R]]) -> R:
    async with opened(loaded, url) as victoria:
        return await work(victoria)


def event_loop(function: Callable[..., Awaitable[R]], *args: object) -> R:
    """Run an async function on the fast event loop where there is one."""
    return anyio.run(function, *args, backend_options={"use_uvloop": _has_uvloop()})


def _has_uvloop() -> bool:
    from importlib.util import find_spec

    return find_spec("uvloop") is not None
