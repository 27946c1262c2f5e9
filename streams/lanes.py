"""Lanes: the tasks in which one stage's entries are handled, at most `concurrency` at once.

A lane goes on to the next entry without giving up the event loop unless its handler waits, so cheap stages run in
tight batches and slow ones side by side: as soon as one lane waits, another one is there. Lanes are made when needed.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from anyio import create_task_group
from anyio.abc import TaskGroup

from streams.entry import Entry
from streams.settlement import Handled
from streams.stage import Policy

BREATHE_EVERY = 64
"""Entries after which a lane lets reading and settling have the event loop, about 0.5 ms of cheap work."""


class _Lane:
    """`since`: the tick in which it began with its entry, 0 when idle. `overdue`: how often it was stopped for its
    time."""

    __slots__ = ("overdue", "since", "wake")

    def __init__(self) -> None:
        self.wake: asyncio.Future[None] | None = None
        self.since, self.overdue = 0.0, 0

    def spare(self, task: asyncio.Task[object]) -> bool:
        """Take back the stops, which were meant for the handler; whether there were any."""
        stops, self.overdue = self.overdue, 0
        for _ in range(stops):
            task.uncancel()
        return stops > 0


class Lanes:
    """`handle` turns an entry into what becomes of it and never raises; `done` takes that."""

    def __init__(
        self, policy: Policy, handle: Callable[[Entry], Awaitable[Handled]], done: Callable[[Handled], None]
    ) -> None:
        self._limit, self._timeout = policy.concurrency, policy.timeout
        self._handle, self._done = handle, done
        self._ready: deque[Entry] = deque()
        self._lanes: dict[asyncio.Task[object], _Lane] = {}
        self._idle: list[_Lane] = []
        self._made = self._busy = 0
        self._calling = False
        self._room = asyncio.Event()
        self._tasks: TaskGroup | None = None
        self._tick = 1.0

    async def run(self) -> None:
        """Handle what is put, until cancelled."""
        async with create_task_group() as tasks:
            self._tasks = tasks
            self._call()
            await self._watch()

    def put(self, entry: Entry) -> None:
        """Have an entry handled."""
        self._ready.append(entry)
        if not self._calling:
            self._call()

    async def room(self) -> int:
        """Wait until entries can be taken in hand; how many.

        While some still wait for a lane there is no hurry: it is worth while to wait for room for many at once.
        """
        while True:
            room = self._limit - self._busy - len(self._ready)
            if room > 0 and (not self._ready or 2 * room >= self._limit):
                return room
            self._room.clear()
            await self._room.wait()

    def _call(self) -> None:
        """Get one more lane to work if entries wait. It calls the next one itself, if by then some are left."""
        if not self._ready or not self._tasks:
            return
        if self._idle:
            self._calling = True
            wake = self._idle.pop().wake
            if wake and not wake.done():
                wake.set_result(None)
        elif self._made < self._limit:
            self._calling = True
            self._made += 1
            self._tasks.start_soon(self._work)

    async def _work(self) -> None:
        task = asyncio.current_task()
        assert task  # noqa: S101 - a coroutine that runs is in a task
        lane, loop, handled = _Lane(), asyncio.get_running_loop(), 0
        self._lanes[task] = lane
        ready = self._ready
        while True:
            self._calling = False
            while ready:
                entry = ready.popleft()
                if ready and not self._calling:
                    self._call()
                lane.since = self._tick
                self._busy += 1
                try:
                    result = await self._handle(entry)
                finally:
                    self._busy -= 1
                    lane.since = 0.0
                if lane.overdue:  # its handler ended in spite of being stopped
                    lane.spare(task)
                self._done(result)
                self._room.set()
                handled += 1
                if handled % BREATHE_EVERY == 0:
                    await asyncio.sleep(0)
            lane.wake = loop.create_future()
            self._idle.append(lane)
            await lane.wake

    async def _watch(self) -> None:
        """Stop handlers that take too long. A look at all lanes now and then costs less than a timer for each event."""
        period = min(1.0, self._timeout / 10)
        while True:
            await asyncio.sleep(period)
            self._tick += period
            for task, lane in self._lanes.items():
                if lane.since and self._tick - lane.since > self._timeout:
                    lane.overdue += 1  # again and again, if it does not listen
                    task.cancel()

    def failure(self, stopped: asyncio.CancelledError) -> BaseException:
        """In a lane that met a cancellation: what its handler failed with, TimeoutError where it took too long. Raises
        `stopped` where it is the lane that is to end."""
        task = asyncio.current_task()
        assert task  # noqa: S101 - a coroutine that runs is in a task
        too_long = self._lanes[task].spare(task)
        if task.cancelling():
            raise stopped
        return TimeoutError().with_traceback(stopped.__traceback__) if too_long else stopped
