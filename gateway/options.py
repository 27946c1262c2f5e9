"""Options that every command shares, and what they lead to: settings, a server, an opened Victoria."""

import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar

import anyio
import typer
from redis.exceptions import RedisError

from deploy.loading import Loaded, load
from deploy.victoria import Victoria
from deploy.wiring import opened, server
from gateway import logs
from gateway.complain import leaves
from schemas.errors import InvalidInput
from schemas.plan import MOST
from streams.connection import reachable

YEAR = 31_536_000
"""The longest deadline, in seconds."""

P = ParamSpec("P")
R = TypeVar("R")

RedisUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The server to use; by default the embedded one.", show_default=False),
]
Model = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="auto, none, local, mlx, ollama, or a model's name.", show_default=False),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other setting; `victoria config` lists them."),
]
Tokens = Annotated[
    int | None,
    typer.Option(min=0, max=MOST, metavar="N", help="Tokens of models a run may use; 0 is any.", show_default=False),
]
Calls = Annotated[
    int | None,
    typer.Option(min=0, max=MOST, metavar="N", help="Calls of models a run may make; 0 is any.", show_default=False),
]
Deadline = Annotated[
    float | None,
    typer.Option(
        min=0, max=YEAR, metavar="SECONDS", help="Seconds in which a run must end; 0 is any.", show_default=False
    ),
]
Unattended = Annotated[
    bool, typer.Option("--unattended", metavar="", help="Nobody is there: its steps ask no person anything.")
]
Fresh = Annotated[bool, typer.Option("--fresh", metavar="", help="Find the answer anew, even if an earlier run has.")]
Strategy = Annotated[str, typer.Option(metavar="NAME", help="The shape of the plan; `victoria strategies` lists them.")]
Expert = Annotated[str, typer.Option(metavar="NAME", help="Who does it; `victoria experts` lists them.")]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON, errors too.")]


def loaded_settings(redis_url: RedisUrl = None, model: Model = None, more: Set = None) -> Loaded:
    """Settings with these flags on top. Raises InvalidInput."""
    flags: dict[str, str | None] = {"redis_url": redis_url, "model": model}
    for item in more or []:
        key, sign, value = item.partition("=")
        if not sign:
            raise InvalidInput("settings.invalid", f"--set {item!r} has no value.", "Write --set KEY=VALUE.")
        flags[key.strip()] = value
    loaded = load({key: value for key, value in flags.items() if value is not None})
    logs.configure(loaded.settings.log_level, goals=loaded.settings.log_goals)
    return loaded


def configured(command: Callable[Concatenate[Loaded, P], None]) -> Callable[..., None]:
    """A command without its first parameter, the settings: they come from `loaded_settings`' options, added here. One
    with a parameter `policies` is given what is set of stages, as in --set plan.timeout=5."""
    shared = inspect.signature(loaded_settings).parameters
    tries_policies = "policies" in inspect.signature(command).parameters

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        if tries_policies:
            said: list[str] = given["more"] or []
            given["policies"] = [item for item in said if "." in item.partition("=")[0]]
            given["more"] = [item for item in said if item not in given["policies"]]
        loaded = loaded_settings(**{name: given.pop(name) for name in shared})
        command(loaded, **given)  # pyright: ignore[reportCallIssue] - Typer gives exactly what the signature says

    signature = inspect.signature(command)
    own = [each for each in list(signature.parameters.values())[1:] if each.name != "policies"]
    with_options.__signature__ = signature.replace(  # pyright: ignore[reportAttributeAccessIssue]
        parameters=[*own, *shared.values()]
    )
    return with_options


def given_environment(loaded: Loaded) -> dict[str, str]:
    """The shared options as they were given, for other processes: as variables, since arguments are for all to see."""
    given = [key for key, origin in loaded.origins.items() if origin.startswith("flag ")]
    return {f"VICTORIA_{key.upper()}": str(getattr(loaded.settings, key)) for key in given}


def with_victoria(loaded: Loaded, work: Callable[[Victoria], Awaitable[R]], *, measured: bool = False) -> R:
    """Do `work` on an opened Victoria, with the embedded server running where no other is configured; with figures for
    Prometheus where it is to be `measured`."""

    async def do() -> R:
        async with connected(loaded, url, measured=measured) as victoria:
            return await work(victoria)

    with server(loaded.settings) as url:
        return event_loop(do)


@asynccontextmanager
async def connected(loaded: Loaded, url: str, *, measured: bool = False) -> AsyncGenerator[Victoria]:
    """An opened Victoria whose server's errors are NotReachable."""
    try:
        async with opened(loaded, url, measured=measured) as victoria:
            yield victoria
    except* RedisError as problems:
        with reachable(url):
            raise next(leaves(problems, RedisError))  # noqa: B904 - the group says no more


def event_loop(function: Callable[[], Awaitable[R]]) -> R:
    """Run an async function on the fast event loop where there is one."""
    return anyio.run(function, backend_options={"use_uvloop": find_spec("uvloop") is not None})
