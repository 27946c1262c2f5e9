"""Stages as processes, as users run them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from streams.connection import Client
from streams.keys import Keys
from tests.workshop import Workshop, eventually

LEASE = 1.0


class Processes:
    """Stage processes on one prefix of the test's server."""

    def __init__(self, url: str, prefix: str, project: Path, workshop: Workshop) -> None:
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VICTORIA_")},
            "VICTORIA_ANSWER_CACHE": "0",
            "VICTORIA_REDIS_URL": url,
            "VICTORIA_PREFIX": prefix,
            "VICTORIA_LEASE": str(LEASE),
        }
        self.project, self.workshop = project, workshop
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *stages: str) -> None:
        """Start one stage, as the README does, or several in one process."""
        command = [sys.executable, "-m", "gateway.cli", "worker", *stages]
        process = subprocess.Popen(command, cwd=self.project, env=self.environ, stderr=subprocess.DEVNULL)
        self.running[" ".join(stages)] = process

    async def ready(self, *stages: str) -> None:
        """Wait until these stages are alive."""
        keys, client = self.workshop.keys, self.workshop.client

        async def alive() -> bool:
            leases = [keys.leases(keys.of_stream(stage)[0], stage) for stage in stages]
            return all([await client.zcard(key) for key in leases])

        await eventually(alive, within=60)

    async def kill_in_mid_work(self, stage: str, stream: str) -> int:
        """kill -9 a stage at a moment when it holds entries; how many it left behind."""
        keys, client, process = self.workshop.keys, self.workshop.client, self.running[stage]
        key = keys.stream(keys.of_stream(stream)[0], stream)
        held = 0

        async def caught() -> bool:
            nonlocal held
            summary = await client.xpending(key, stage)
            if not summary["pending"]:
                return False
            process.send_signal(signal.SIGSTOP)
            # What it had sent before it stopped is settled now; what is left it will never settle.
            await client.ping()
            held = (await client.xpending(key, stage))["pending"]
            if held:
                process.kill()
                process.wait()
            else:
                process.send_signal(signal.SIGCONT)
            return bool(held)

        with anyio.fail_after(60):
            while not await caught():  # without a pause: a stage may be through with all there is in one
                pass
        del self.running[stage]
        return held

    def stop_all(self) -> dict[str, int]:
        """SIGTERM to all; their exit codes."""
        for process in self.running.values():
            process.terminate()
        codes = {stage: process.wait(timeout=20) for stage, process in self.running.items()}
        self.running.clear()
        return codes


@pytest.fixture
def processes(redis_url: str, prefix: str, client: Client, tmp_path: Path) -> Iterator[Processes]:
    """Processes in a small project folder; none outlives its test."""
    project = tmp_path / "project"
    (project / "docs").mkdir(parents=True)
    (project / "victoria.toml").touch()
    for name in ("alpha.txt", "beta.txt", "gamma.txt"):
        (project / "docs" / name).write_text(f"This is {name}.\n")
    started = Processes(redis_url, prefix, project, Workshop(client, Keys(prefix)))
    yield started
    for process in started.running.values():
        process.kill()
        process.wait()
