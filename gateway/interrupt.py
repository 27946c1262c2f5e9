"""Signals as events: Ctrl-C and SIGTERM end what runs, in order and at once."""

import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from gateway.complain import Interrupted


@asynccontextmanager
async def interruptible(
    told: Callable[[], Interrupted],
    by: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
) -> AsyncGenerator[None]:
    """Inside, Ctrl-C, SIGTERM and a closed terminal raise what `told` returns then."""

    async def listen() -> None:
        with anyio.open_signal_receiver(*by) as signals:
            async for _ in signals:
                raise told()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        yield
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def stopping_on_signals() -> AsyncGenerator[anyio.Event]:
    """An event that Ctrl-C or SIGTERM sets. Who presses Ctrl-C again does not want to wait."""
    stop = anyio.Event()

    async def listen(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                if stop.is_set():
                    raise Interrupted("interrupted", "Stopped at once; other workers take over what was in hand.")
                stop.set()

    async with anyio.create_task_group() as tasks:
        await tasks.start(listen)
        yield stop
        tasks.cancel_scope.cancel()


async def unless(stop: anyio.Event, work: Callable[[], Awaitable[object]]) -> bool:
    """Do `work`, and give it up when `stop` is set. Whether it was done."""
    done = False
    async with anyio.create_task_group() as race:

        async def watch() -> None:
            await stop.wait()
            race.cancel_scope.cancel()

        race.start_soon(watch)
        await work()
        done = True
        race.cancel_scope.cancel()
    return done
