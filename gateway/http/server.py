"""The server under the pages: a socket, uvicorn on it, and its words among our logs."""

import ipaddress
import logging
import math
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import anyio
import structlog
import uvicorn
from starlette.types import ASGIApp

from deploy.victoria import Victoria
from gateway.http.app import app
from gateway.http.door import Door
from gateway.http.guards import register_of
from gateway.http.live import Live
from gateway.http.logged import Logged
from gateway.http.patience import HEAD_BYTES, Patience
from gateway.listening import BACKLOG, url_of
from gateway.screen import note

_log: Any = structlog.get_logger()


def is_local(listener: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ipaddress.ip_address(str(listener.getsockname()[0]).partition("%")[0]).is_loopback


async def require_tokens(victoria: Victoria, listener: socket.socket) -> None:
    """See that a door which others reach has tokens by which to know them. Raises InvalidInput `http.open`."""
    if not is_local(listener):
        await register_of(victoria, local=False).require(victoria.settings.http_host)


async def serve(victoria: Victoria, listener: socket.socket, agent: str, stop: anyio.Event) -> None:
    """Serve HTTP on a socket until `stop` is set. Requests that wait for runs are told so then; others are finished."""
    live = Live(victoria)
    pages = Logged(app(Door(victoria, live, agent, local=is_local(listener))))
    server = Server(pages, "ready", victoria.settings.grace)
    async with anyio.create_task_group() as tasks:

        async def end() -> None:
            await stop.wait()
            live.stop()
            server.should_exit = True

        tasks.start_soon(end)
        await tasks.start(live.follow)
        await server.serve([listener])
        tasks.cancel_scope.cancel()


class Server(uvicorn.Server):
    """Of `pages`, on HTTP alone. Says when it is ready, and as what, and leaves signals to who runs it. At its end
    requests have `grace` seconds; beyond `at_once` connections it tells clients to come later."""

    def __init__(self, pages: ASGIApp, what: str, grace: float, at_once: int | None = None) -> None:
        log_as_ours()
        super().__init__(
            uvicorn.Config(
                pages,
                http=Patience,  # of h11, which unlike the others bounds the size of headers
                h11_max_incomplete_event_size=HEAD_BYTES,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                limit_concurrency=at_once,
                timeout_graceful_shutdown=math.ceil(grace),
            )
        )
        self._what = what

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say where it listens."""
        await super().startup(sockets)
        for each in sockets or ():
            stops = "; Ctrl-C stops" if self._what == "ready" else "/metrics"
            note(f"{self._what}: {url_of(*each.getsockname()[:2])}{stops}")

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave them alone."""
        yield


class _Forward(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        problem = record.exc_info[1] if record.exc_info else None
        _log.log(record.levelno, "http.server", said=record.getMessage().partition("\n")[0], exc_info=problem)


def log_as_ours() -> None:
    """Let uvicorn's warnings and errors be log events like all others."""
    logger = logging.getLogger("uvicorn")
    logger.handlers, logger.propagate = [_Forward()], False
    logger.setLevel(logging.WARNING)
