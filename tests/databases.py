"""PostgreSQL servers for tests: the embedded one, the given one, and the system's own, which is older."""

import os
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from deploy.embedded import embedded
from deploy.postgres import POSTGRES, Postgres

WITHIN = 20.0
"""Seconds in which a server has to answer."""


class OfSystem(Postgres):
    """The newest PostgreSQL that Debian's packages have put here."""

    def binary(self) -> Path:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        if not found:
            raise FileNotFoundError(2, "no PostgreSQL of the system")
        return found[-1]


@contextmanager
def database_server(folder: Path) -> Generator[str]:
    """The URL of the server of VICTORIA_POSTGRES_URL, else of an embedded one."""
    if url := os.environ.get("VICTORIA_POSTGRES_URL"):
        yield url
    else:
        with embedded(folder, program=POSTGRES) as url:
            yield url


@contextmanager
def system_server(folder: Path) -> Generator[str]:
    """The URL of the system's own. Raises FileNotFoundError without one."""
    program, socket = OfSystem(), folder / Postgres.socket
    command = program.command(socket)
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + WITHIN
        while not program.answers(socket):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield program.url(socket)
    finally:
        process.terminate()
        process.wait()
