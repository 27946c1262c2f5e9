"""`victoria worker` and `victoria up`: stages at work, in this process or one process each."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import anyio
import structlog
import typer
from rich.console import Console

from deploy.settings import Loaded
from deploy.wiring import LOCAL, Victoria
from gateway.options import Model, RedisUrl, Set, loaded_settings, with_victoria
from gateway.run import Progress

RESTART_AFTER, RESTART_AT_MOST = 0.5, 30.0
"""Seconds before a stage process that died is started again, doubled each time up to the second."""

_log: Any = structlog.get_logger()


def worker(
    stages: Annotated[list[str], typer.Argument(help="Stages such as understand, plan, infer.local.")],
    redis_url: RedisUrl = None,
    model: Model = None,
    more: Set = None,
) -> None:
    """Run one or more stages in this process until SIGTERM or Ctrl-C.

    Any number of processes may run the same stage; they share its work.

    Example: victoria worker step-execute
    """
    loaded = loaded_settings(redis_url, model, more)

    async def work(victoria: Victoria) -> None:
        await serve(victoria, victoria.require_stages(stages))

    with_victoria(loaded, work)


def up(
    processes: Annotated[bool, typer.Option("--processes", help="One process for each stage.")] = False,
    redis_url: RedisUrl = None,
    model: Model = None,
    more: Set = None,
) -> None:
    """Run all stages until SIGTERM or Ctrl-C, in this process or one process each.

    Example: victoria up --processes
    """
    loaded = loaded_settings(redis_url, model, more)

    async def work(victoria: Victoria) -> None:
        if processes:
            await supervise(victoria, loaded, _arguments(redis_url, model, more))
        else:
            await serve(victoria, victoria.stages)

    with_victoria(loaded, work)


async def serve(victoria: Victoria, stages: Sequence[str]) -> None:
    """Run stages in this process until it is told to stop."""
    console = Console(stderr=True, highlight=False)
    if LOCAL in stages:
        progress = Progress()
        victoria.local_model.progress = progress.download
        progress.waiting("loading the model …")
        try:
            await victoria.ready(stages)
        finally:
            progress.close()
    running = victoria.worker(stages)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_on_signal, running.stop)
        async with anyio.create_task_group() as at_work:
            await at_work.start(running.run)
            console.print(f"ready: {', '.join(stages)} (process {os.getpid()}); Ctrl-C stops", markup=False)
        tasks.cancel_scope.cancel()
    console.print(f"stopped: {', '.join(stages)}", markup=False)


async def _stop_on_signal(stop: Any) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            stop()


def _arguments(redis_url: str | None, model: str | None, more: list[str] | None) -> list[str]:
    """The shared options as they were given, for the processes of the stages."""
    given = [f"--set={item}" for item in more or []]
    given += [f"--redis-url={redis_url}"] if redis_url is not None else []
    given += [f"--model={model}"] if model is not None else []
    return given


async def supervise(victoria: Victoria, loaded: Loaded, options: list[str]) -> None:
    """Run each stage as a process of its own until told to stop; one that dies is started again."""
    stopping = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_on_signal, stopping.set)
        async with anyio.create_task_group() as stages:
            for stage in victoria.stages:
                stages.start_soon(_keep_running, stage, options, stopping, loaded.settings.grace)
        tasks.cancel_scope.cancel()


async def _keep_running(stage: str, options: list[str], stopping: anyio.Event, grace: float) -> None:
    pause = RESTART_AFTER
    while not stopping.is_set():
        # A session of its own keeps the terminal's Ctrl-C from stages: they are told once, by their supervisor.
        command = [sys.executable, "-m", "gateway.cli", "worker", stage, *options]
        process = await anyio.open_process(
            command, stdin=subprocess.DEVNULL, stdout=None, stderr=None, start_new_session=True
        )
        started = anyio.current_time()
        async with anyio.create_task_group() as race:
            race.start_soon(_until, process.wait, race.cancel_scope)
            race.start_soon(_until, stopping.wait, race.cancel_scope)
        if process.returncode is None:
            process.terminate()
            with anyio.move_on_after(grace + 5):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
            return
        if process.returncode in (2, 3, 5):
            _log.error("up.stage_cannot_start", stage=stage, exit_code=process.returncode)
        _log.warning("up.stage_ended", stage=stage, exit_code=process.returncode, restart_in=pause)
        with anyio.move_on_after(pause):
            await stopping.wait()
        pause = RESTART_AFTER if anyio.current_time() - started > RESTART_AT_MOST else min(2 * pause, RESTART_AT_MOST)


async def _until(wait: Any, scope: anyio.CancelScope) -> None:
    await wait()
    scope.cancel()
