"""The HTTP door as a process, and a client that knows where it is."""

import re
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.gateway.conftest import WITHIN, Cli, Running


class DoorProcess:
    """`victoria serve` at work."""

    def __init__(self, running: Running, url: str) -> None:
        self.running, self.url = running, url

    def client(self) -> httpx.Client:
        """A client of its pages."""
        return httpx.Client(base_url=self.url, timeout=WITHIN, trust_env=False)

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """Post JSON; `_` in names of headers stands for `-`."""
        with self.client() as client:
            return client.post(path, json=body, headers={name.replace("_", "-"): headers[name] for name in headers})

    def get(self, path: str) -> Any:
        """The JSON of a page that has to be there."""
        with self.client() as client:
            return client.get(path).raise_for_status().json()

    def kill(self) -> None:
        """kill -9."""
        self.running.process.send_signal(signal.SIGKILL)
        self.running.process.wait()


def start(cli: Cli, *arguments: str, port: int = 0, **environ: str) -> DoorProcess:
    """Start the door, and wait until it is open."""
    running = cli.start("serve", "--port", str(port), *arguments, stdin=subprocess.DEVNULL, **environ)
    found = re.search(r"ready: (http://\S+);", running.until("ready: "))
    assert found
    return DoorProcess(running, found[1])


@contextmanager
def lasting(cli: Cli, *arguments: str) -> Generator[DoorProcess]:
    """A door that outlives single tests."""
    door = start(cli, *arguments)
    cli.running.remove(door.running)
    try:
        yield door
    finally:
        assert door.running.end(signal.SIGTERM)[0] == 0
        assert door.running.process.stdout
        door.running.process.stdout.close()
        assert "Traceback" not in "\n".join(door.running.lines)
