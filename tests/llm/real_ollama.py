"""A real Ollama for tests, with the embedded model under the name `smol`. `make ollama` builds it."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.llm.build_ollama import BINARY
from tests.servers import free_ports

needs_ollama = pytest.mark.skipif(not BINARY.exists(), reason="no real Ollama here: `make ollama` builds one")

WITHIN = 20.0
"""Seconds in which it has to listen."""


class RealOllama:
    """A server process on a port of its own, which it keeps when it is started again. `folder` has its models: servers
    that are given the same one share them."""

    def __init__(self, folder: Path, *, parallel: int = 2) -> None:
        self.name = f"127.0.0.1:{free_ports(1)[0]}"
        self._folder = folder
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "OLLAMA_HOST": self.name,
            "OLLAMA_NUM_PARALLEL": str(parallel),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self._log.open("ab") as log:
            command = [BINARY, "serve"]
            # In a group of its own: the model runs in a process beside the server's.
            self._process = subprocess.Popen(command, env=self._environ, stdout=log, stderr=log, start_new_session=True)
        host, _, port = self.name.partition(":")
        give_up = time.monotonic() + WITHIN
        while True:
            try:
                socket.create_connection((host, int(port))).close()
            except ConnectionRefusedError:
                assert time.monotonic() < give_up, f"Ollama did not start: {self.log[-2000:]}"
                time.sleep(0.02)
            else:
                return

    def create(self, model_file: Path) -> None:
        """Make the model `smol` of a GGUF file."""
        recipe = self._folder / "Modelfile"
        # One thread: two that share a processor with somebody else wait for each other at every layer.
        recipe.write_text(f"FROM {model_file}\nPARAMETER num_thread 1\n")
        command = [BINARY, "create", "smol", "-f", recipe]
        subprocess.run(command, env=self._environ, check=True, capture_output=True, timeout=60)

    def kill(self) -> None:
        """kill -9, with its model, if it runs."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """From now on it accepts connections, and never answers."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """The end of a pause."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process
        os.killpg(self._process.pid, number)

    @property
    def _log(self) -> Path:
        return self._folder / f"log-{self.name.rpartition(':')[2]}"


@contextmanager
def real_ollama(folder: Path, *, parallel: int = 2) -> Generator[RealOllama]:
    """A server that runs inside."""
    server = RealOllama(folder, parallel=parallel)
    try:
        server.start()
        yield server
    finally:
        server.kill()
