"""The server under the pages: a socket, uvicorn on it, and its words among our logs."""

import ipaddress
import logging
import math
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import anyio
import structlog
import uvicorn

from deploy.victoria import Victoria
from gateway.http.app import app
from gateway.http.door import Door
from gateway.http.guards import register_of
from gateway.http.live import Live
from gateway.http.logged import Logged
from gateway.http.patience import HEAD_BYTES, Patience
from gateway.screen import note
from schemas.errors import CouldNotStart

BACKLOG = 2048

_log: Any = structlog.get_logger()


@contextmanager
def listening(host: str, port: int) -> Generator[socket.socket]:
    """A socket that takes connections, before there is anybody to serve them: they wait.

    Raises CouldNotStart `http.host`, `http.port`.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as problem:
        raise CouldNotStart(
            "http.host", f"{host!r} is no address: {problem}.", "Take 127.0.0.1: --host 127.0.0.1."
        ) from None
    try:
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as problem:
        why = os.strerror(problem.errno) if problem.errno else problem
        raise CouldNotStart(
            "http.port", f"No server can be at {url_of(host, port)}: {why}.", "Choose another port: --port 8020."
        ) from None
    with listener:
        yield listener


def url_of(host: str, port: int) -> str:
    """The address as a URL."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_local(listener: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ipaddress.ip_address(str(listener.getsockname()[0]).partition("%")[0]).is_loopback


async def require_tokens(victoria: Victoria, listener: socket.socket) -> None:
    """See that a door which others reach has tokens by which to know them. Raises InvalidInput `http.open`."""
    if not is_local(listener):
        await register_of(victoria, local=False).require(victoria.settings.http_host)


async def serve(victoria: Victoria, listener: socket.socket, agent: str, stop: anyio.Event) -> None:
    """Serve HTTP on a socket until `stop` is set. Requests that wait for runs are told so then; others are finished."""
    log_as_ours()
    live = Live(victoria)
    server = _Server(
        uvicorn.Config(
            Logged(app(Door(victoria, live, agent, local=is_local(listener)))),
            http=Patience,  # of h11, which unlike the others bounds the size of headers
            h11_max_incomplete_event_size=HEAD_BYTES,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=math.ceil(victoria.settings.grace),
        )
    )
    async with anyio.create_task_group() as tasks:

        async def end() -> None:
            await stop.wait()
            live.stop()
            server.should_exit = True

        tasks.start_soon(end)
        await tasks.start(live.follow)
        await server.serve([listener])
        tasks.cancel_scope.cancel()


class _Server(uvicorn.Server):
    """Says when it is ready, and leaves signals to who runs it."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for each in sockets or ():
            note(f"ready: {url_of(*each.getsockname()[:2])}; Ctrl-C stops")

    @contextmanager
    def capture_signals(self) -> Generator[None]:
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
