"""Sockets that take connections before there is anybody to serve them: they wait."""

import errno
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager

from schemas.errors import CouldNotStart

BACKLOG = 2048


@contextmanager
def listening(host: str, port: int, option: str = "--port 8020", code: str = "http") -> Generator[socket.socket]:
    """A socket at an address, which `option` would make another one. Raises CouldNotStart `http.host`, `http.port`."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as problem:
        raise _no_address(code, host, problem) from None
    try:
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as problem:
        if problem.errno == errno.EADDRNOTAVAIL:
            raise _no_address(code, host, problem.strerror) from None
        why = os.strerror(problem.errno) if problem.errno else problem
        raise CouldNotStart(
            f"{code}.port", f"No server can be at {url_of(host, port)}: {why}.", f"Choose another port: {option}."
        ) from None
    with listener:
        yield listener


def _no_address(code: str, host: str, why: object) -> CouldNotStart:
    hint = "It is the address of one of this machine's networks; 127.0.0.1 is for itself."
    return CouldNotStart(f"{code}.host", f"{host!r} is no address of this machine: {why}.", hint)


def url_of(host: str, port: int) -> str:
    """The address as a URL."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
