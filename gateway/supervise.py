"""One process for each stage: started, started again when it dies, and told when all is to end."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

import anyio
from anyio.abc import Process

from gateway.interrupt import stopping_on_signals, unless
from gateway.screen import note

RESTART_AFTER, RESTART_AT_MOST = 0.5, 30.0
"""Seconds before a stage process that died is started again, doubled each time up to the second."""
LONG_LIFE = 30.0
"""Seconds after which a process counts as one that works."""
CANNOT_START = (2, 3, 5)
"""Exit codes that speak of settings, parts that are missing, and the server."""


async def supervise(stages: Sequence[str], environ: Mapping[str, str], grace: float, metrics_port: int = 0) -> None:
    """Keep a process running for each stage until Ctrl-C or SIGTERM; they then have `grace` seconds to finish.

    `environ` is added to their environment. Their figures are at `metrics_port` and those that follow, 0 for nowhere.
    """
    async with stopping_on_signals() as stop, anyio.create_task_group() as running:
        for number, stage in enumerate(stages):
            own = {"VICTORIA_METRICS_PORT": str(metrics_port + number if metrics_port else 0)}
            running.start_soon(_keep_running, stage, {**environ, **own}, stop, grace)
        note(f"up: {', '.join(stages)}, a process each; Ctrl-C stops")
        if metrics_port:
            note(f"figures at ports {metrics_port} to {metrics_port + len(stages) - 1}, in this order")
    note("all stopped")


async def _keep_running(stage: str, environ: Mapping[str, str], stop: anyio.Event, grace: float) -> None:
    pause = RESTART_AFTER
    while not stop.is_set():
        started = anyio.current_time()
        # -P: the user's folder may have a package `gateway` of its own. A session of its own keeps the terminal's
        # Ctrl-C from the stages: they are told once, by us; should we be killed, they see that by themselves.
        command = [sys.executable, "-P", "-m", "gateway.cli", "worker", stage, f"--parent={os.getpid()}"]
        process = await anyio.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=None,
            stderr=None,
            env={**os.environ, **environ},
            start_new_session=True,
        )
        async with process:
            if not await unless(stop, process.wait):
                await _end(process, grace)
                return
        if anyio.current_time() - started > LONG_LIFE:
            pause = RESTART_AFTER
        note(f"{stage} {_why(process.returncode)}; starting it again in {pause:g} s", "red")
        with anyio.move_on_after(pause):
            await stop.wait()
        pause = min(2 * pause, RESTART_AT_MOST)


async def _end(process: Process, grace: float) -> None:
    """Let a process finish; one that takes too long is killed."""
    process.terminate()
    with anyio.move_on_after(grace + 5):
        await process.wait()


def _why(code: int | None) -> str:
    match code:
        case int() if code < 0:
            return f"was killed ({signal.Signals(-code).name})"
        case int() if code in CANNOT_START:
            return f"could not start (exit code {code}, its reason is above)"
        case _:
            return f"ended (exit code {code})"
