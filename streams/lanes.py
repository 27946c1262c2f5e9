"""Lanes: the tasks in which one stage's entries are handled, at most `concurrency` at once.

A lane goes on to the next entry without giving up the event loop unless its handler waits, so cheap stages run in
tight batches and slow ones side by side: as soon as one lane waits, another one is there. Lanes are made when needed.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from math import inf

from anyio import create_task_group, current_effective_deadline
from anyio.abc import TaskGroup

from streams.endings import LOOK_EVERY
from streams.entry import Entry
from streams.settlement import Handled
from streams.stage import Policy

BREATHE_EVERY = 64
"""Entries after which a lane lets reading and settling have the event loop, about 0.5 ms of cheap work."""
STOP_AGAIN = 5.0
"""Seconds a handler has for what it does when its run ends, before it is stopped again."""


class RunEnded(Exception):
    """A handler was stopped since its run has ended."""


class _Lane:
    """`entry`: what its handler is at work on, None if it has none, and `since` the tick in which it began. `stops`:
    how often it was stopped, the last time in tick `stopped`, at first since `why`."""

    __slots__ = ("entry", "since", "stopped", "stops", "wake", "why")

    def __init__(self) -> None:
        self.wake: asyncio.Future[None] | None = None
        self.entry: Entry | None = None
        self.since, self.stopped, self.stops = 0.0, 0.0, 0
        self.why: Exception | None = None

    def works(self, tick: float) -> bool:
        """Whether its handler is at work since before this tick, and not about to end."""
        return self.entry is not None and self.since < tick and (not self.stops or self.stopped + STOP_AGAIN <= tick)

    def stop(self, task: asyncio.Task[object], why: Exception, tick: float) -> None:
        """Cancel the handler."""
        self.stops, self.stopped, self.why = self.stops + 1, tick, self.why or why
        task.cancel()

    def spare(self, task: asyncio.Task[object]) -> Exception | None:
        """Take back the stops, which were meant for the handler; why there were any."""
        stops, why = self.stops, self.why
        self.stops, self.why = 0, None
        for _ in range(stops):
            task.uncancel()
        return why


class Lanes:
    """`handle` turns an entry into what becomes of it and never raises; `done` takes that."""

    def __init__(
        self, policy: Policy, handle: Callable[[Entry], Awaitable[Handled]], done: Callable[[Handled], None]
    ) -> None:
        self._limit, self._timeout = policy.concurrency, policy.timeout
        self._period = min(LOOK_EVERY if policy.stops_with_run else 1.0, policy.timeout / 10)
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
                if not ready:
                    self._room.set()  # who waits for room may have waited for this entry to be taken
                elif not self._calling:
                    self._call()
                lane.since, lane.entry = self._tick, entry
                self._busy += 1
                try:
                    result = await self._handle(entry)
                finally:
                    self._busy -= 1
                    lane.entry = None
                if lane.stops:  # its handler ended in spite of being stopped
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
        while True:
            await asyncio.sleep(self._period)
            self._tick += self._period
            for task, lane in self._lanes.items():
                if lane.entry and self._tick - lane.since > self._timeout:
                    lane.stop(task, TimeoutError(), self._tick)  # again and again, if it does not listen

    def at_work(self) -> set[str]:
        """The runs whose entries handlers are at work on since before the last tick."""
        return {lane.entry.run for lane in self._lanes.values() if lane.entry and lane.works(self._tick)}

    def stop(self, runs: Collection[str]) -> None:
        """Stop those of them that are of these runs. They may take a while, to free what they hold."""
        for task, lane in self._lanes.items():
            if lane.entry and lane.entry.run in runs and lane.works(self._tick):
                lane.stop(task, RunEnded(), self._tick)

    def leave(self) -> None:
        """In a lane whose handler has ended: what is left to do for its entry is not stopped any more."""
        self._own()[1].entry = None

    def failure(self, raised: BaseException) -> BaseException:
        """In a lane whose handler raised something: what it failed with, TimeoutError or RunEnded where it was stopped
        for that. Raises `raised` where it is the lane that is to end."""
        self.leave()
        task, lane = self._own()
        why, cancelled = lane.spare(task), isinstance(raised, asyncio.CancelledError)
        if cancelled and (task.cancelling() or current_effective_deadline() == -inf):
            raise raised
        if why and (cancelled or isinstance(why, RunEnded)):
            return why.with_traceback(raised.__traceback__)
        return raised

    def _own(self) -> tuple[asyncio.Task[object], _Lane]:
        task = asyncio.current_task()
        assert task  # noqa: S101 - a coroutine that runs is in a task
        return task, self._lanes[task]
