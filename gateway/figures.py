"""The figures of a worker for Prometheus: a small HTTP server beside it, at a port of its own."""

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, TypeVar

import anyio
import msgspec
import typer
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.loading import Loaded
from deploy.victoria import Victoria, foreground
from gateway.listening import listening
from gateway.options import with_victoria
from schemas.errors import VictoriaError
from streams.connection import TROUBLE
from streams.recent import Recent

FRESH = 1.0
"""Seconds for which what was found of the event server is good: however many ask, it is asked once."""
WITHIN = 2.0
"""Seconds in which it must answer, or counts as away."""
AT_ONCE = 16
"""Connections; who comes then is told to come later."""

MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65_535,
        metavar="PORT",
        help="Where figures for Prometheus are; by default the setting metrics_port, 0 is nowhere.",
        show_default=False,
    ),
]
R = TypeVar("R")


def at_port(loaded: Loaded, metrics_port: int | None) -> Loaded:
    """The settings with this port, if one is given."""
    if metrics_port is None:
        return loaded
    settings = msgspec.structs.replace(loaded.settings, metrics_port=metrics_port)
    return msgspec.structs.replace(loaded, settings=settings)


def with_figures(loaded: Loaded, work: Callable[[Victoria], Awaitable[R]]) -> R:
    """Do `work` on an opened Victoria, with its figures where the settings want them. Raises CouldNotStart
    `metrics.port`, `metrics.host`."""
    settings = loaded.settings
    if not settings.metrics_port:
        return with_victoria(loaded, work)

    async def figured(victoria: Victoria) -> R:
        async with _served(victoria, listener):
            return await work(victoria)

    option = f"--metrics-port {settings.metrics_port % 65_535 + 1}"
    with listening(settings.metrics_host, settings.metrics_port, option, "metrics") as listener:
        return with_victoria(loaded, figured, measured=True)


@asynccontextmanager
async def _served(victoria: Victoria, listener: socket.socket) -> AsyncGenerator[None]:
    """Inside, who asks is told the figures."""
    from gateway.http.server import Server  # late: it takes a fifth of a second

    server = Server(pages(victoria), "figures", grace=1, at_once=AT_ONCE)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listener])
        try:
            yield
        finally:
            server.should_exit = True


def pages(victoria: Victoria) -> ASGIApp:
    """`GET /metrics`, and nothing else."""
    from prometheus_client import CollectorRegistry

    from deploy.observed.standing import Found, Standing, look
    from gateway.http.metrics import CONTENT_TYPE, generate_latest

    registry = CollectorRegistry()
    standing = Standing(registry)
    if victoria.figures:
        registry.register(victoria.figures)

    async def tell() -> None:
        found = Found()
        try:
            with anyio.move_on_after(WITHIN):
                found = await look(victoria)
        except (*TROUBLE, VictoriaError):
            pass  # what only the server knows is not told then
        standing.tell(found, foreground(stage.name for stage in victoria.topology.stages))

    told = Recent(tell)

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        fine = scope["path"] == "/metrics" and scope["method"] in ("GET", "HEAD")
        if fine:
            await told.within(FRESH)
        body = generate_latest(registry) if fine else b"There is /metrics.\n"
        headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200 if fine else 404, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return app
