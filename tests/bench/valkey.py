"""Servers of the measurements' own: the embedded binary with the embedded server's settings, on a loopback port."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from redis import Redis
from redis.exceptions import ConnectionError as NotYet

from deploy.valkey import CONFIGURATION, server_binary

UP_WITHIN = 10.0


@contextmanager
def valkey(**settings: str) -> Generator[str]:
    """The URL of a server that lives as long as the context; `settings` differ from the embedded server's."""
    port = _free_port()
    configuration = CONFIGURATION | {"bind": "127.0.0.1", "port": str(port)} | settings
    options = [part for key, value in configuration.items() for part in (f"--{key}", value)]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        process = subprocess.Popen([server_binary(), *options], cwd=folder, stdout=subprocess.DEVNULL)
        try:
            url = f"redis://127.0.0.1:{port}/0"
            _until_up(url, process)
            yield url
        finally:
            process.kill()  # nothing on it is to be kept
            process.wait()


def client_of(url: str) -> Any:
    """A blocking client."""
    return cast("Any", Redis).from_url(url)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return cast("int", taken.getsockname()[1])


def _until_up(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + UP_WITHIN
    while True:
        try:
            client_of(url).ping()
        except NotYet:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
