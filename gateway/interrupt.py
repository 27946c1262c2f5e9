"""Signals as events: Ctrl-C and SIGTERM end what runs, in order and at once."""

import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic

import anyio

from gateway.complain import Interrupted

INSISTING = 0.5
"""Seconds after a signal in which another one may be of the same wish: a terminal and a supervisor both send them."""


@asynccontextmanager
async def interruptible(
    told: Callable[[], Interrupted],
    by: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
) -> AsyncGenerator[None]:
    """Inside, Ctrl-C, SIGTERM and a closed terminal raise what `told` returns then."""

    async def listen() -> None:
        with _signals(*by) as signals:
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
        with _signals(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                if stop.is_set():
                    raise Interrupted("interrupted", "Stopped at once; other workers take over what was in hand.")
                stop.set()

    async with anyio.create_task_group() as tasks:
        await tasks.start(listen)
        yield stop
        tasks.cancel_scope.cancel()


@contextmanager
def _signals(*numbers: signal.Signals) -> Generator[AsyncIterator[signal.Signals]]:
    """These signals as they come. The second one ends a process whose event loop has not heard the first, as where a
    user's own code goes round and round in it."""
    unheard = 0.0

    def came(number: int, _frame: object) -> None:
        nonlocal unheard
        now = monotonic()
        if unheard and now - unheard > INSISTING:
            os.write(2, b"It does not listen: ended at once. Other workers take over what was in hand.\n")
            os._exit(128 + number)
        unheard = unheard or now

    async def heard(signals: AsyncIterator[signal.Signals]) -> AsyncGenerator[signal.Signals]:
        nonlocal unheard
        async for number in signals:
            unheard = 0.0
            yield number

    with anyio.open_signal_receiver(*numbers) as signals:
        for number in numbers:  # the loop hears of them through a pipe, whatever Python's own handler is
            signal.signal(number, came)
            signal.siginterrupt(number, False)
        yield heard(signals)


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
