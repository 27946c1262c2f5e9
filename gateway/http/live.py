"""What happens to runs, as it happens: one reader of the streams for all who follow a run or wait for its end."""

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager

import anyio

from deploy.victoria import Victoria
from gateway.http.follower import Follower, Happened, Place
from gateway.http.reader import Reader
from gateway.http.tapes import Tape, Tapes
from schemas.errors import NotReachable, Overloaded, VictoriaError
from schemas.events import RunFinished
from streams.connection import TROUBLE
from streams.endings import ended

LOOK_AGAIN = 5.0
"""Seconds between looks whether followed runs have ended: of one that has, at two looks, the end was trimmed unread."""
FOLLOWERS = 10_000
"""Requests that may follow runs, or wait for their ends, at once."""
SEARCHES = 2
"""Followers that may search the results stream at once for what is not in memory."""
TRY_AGAIN = 0.5
"""Seconds before a follower tries again what the server did not answer."""


class Live:
    """Tells of runs. `follow` runs beside it."""

    def __init__(self, victoria: Victoria) -> None:
        self._victoria = victoria
        self._tapes = Tapes(victoria.keys)
        self._followers = 0
        self._searching = anyio.CapacityLimiter(SEARCHES)
        self._trouble: VictoriaError | None = None
        self._stopped: VictoriaError | None = None

    async def of(self, run_id: str) -> RunFinished:
        """The run's end, once it is there; at once if it is.

        Raises InvalidInput `run.unknown`; NotReachable when the server stays away, or when this process is to end;
        Overloaded when too many wait. The run goes on in any case.
        """
        with self._following(run_id) as tape:  # before the look, so that no end falls in between
            end = (await self._victoria.view(run_id)).finished
            while not (end := end or tape.end):
                if problem := self._stopped or self._trouble:
                    raise problem
                if tape.ended:
                    tape.ended = False
                    end = (await self._victoria.view(run_id)).finished
                else:
                    await tape.changed.wait()
            return end

    async def events(self, run_id: str, after: str = "") -> AsyncGenerator[Happened]:
        """All that people may follow of a run, from its beginning or after an id, until its end: what goes on, and
        answers piece by piece. Nothing is missed and nothing given twice, however slowly it is taken.

        Of what the server has dropped only the run's end is given: results go as VICTORIA_KEEP says, a feed's pieces
        when it has 5,000 or after an hour (consumers.feed). While the server is away, followers wait.

        Raises, when first asked, InvalidInput `events.place` for what is no id and `run.unknown`, Overloaded when too
        many follow, NotReachable; and at any time NotReachable `http.stopping` when this process is to end.
        """
        async with aclosing(self.batches(run_id, after, LOOK_AGAIN)) as batches:
            async for batch in batches:
                for happened in batch:
                    yield happened

    async def batches(self, run_id: str, after: str, within: float) -> AsyncGenerator[list[Happened]]:
        """The same by as many as there are at once: the first ones without waiting, then none whenever nothing has come
        for `within` seconds."""
        place = Place.of(after)
        with self._following(run_id) as tape, _listening(tape):
            follower = Follower(self._victoria, run_id, tape, place, self._searching)
            await follower.begin()
            if place.over:
                return
            begun = False
            while True:
                changed = tape.changed
                if self._stopped:
                    raise self._stopped
                try:
                    batch = await follower.next()
                except NotReachable:
                    await anyio.sleep(TRY_AGAIN)
                    continue
                if batch or not begun:
                    begun = True
                    yield batch
                if batch and isinstance(batch[-1].body, RunFinished):
                    return
                if not batch:
                    with anyio.move_on_after(within) as late:
                        await changed.wait()
                    if late.cancelled_caught:
                        yield []

    async def follow(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Read the streams until cancelled."""
        partitions = self._victoria.keys.of_stream("results")
        readers = [Reader(self._victoria, partition, self._tapes, self._told) for partition in partitions]
        for reader in readers:
            await reader.begin()
        async with anyio.create_task_group() as tasks:
            for reader in readers:
                tasks.start_soon(reader.run)
            tasks.start_soon(self._look)
            task_status.started()

    def stop(self) -> None:
        """Nobody is to wait here any more."""
        self._stopped = NotReachable(
            "http.stopping",
            "This server stops; the run goes on.",
            "Send the request again with the same Idempotency-Key, or ask GET /run/status.",
        )
        self._tapes.wake()

    def _told(self, trouble: VictoriaError | None) -> None:
        """A reader says that the server stays away, or is back."""
        self._trouble = trouble
        if trouble:
            self._tapes.wake()

    async def _look(self) -> None:
        """Find runs that ended though nothing was read of it."""
        before: set[str] = set()
        while True:
            await anyio.sleep(LOOK_AGAIN)
            followed = {run_id: tape for some in self._tapes.followed.values() for run_id, tape in some.items()}
            try:
                over = await ended(self._victoria.client, self._victoria.keys, followed) if followed else set[str]()
            except TROUBLE:
                continue
            for run_id in over & before:
                if not followed[run_id].end:
                    followed[run_id].ended = True
                    followed[run_id].wake()
            before = over

    @contextmanager
    def _following(self, run_id: str) -> Generator[Tape]:
        if self._stopped:
            raise self._stopped
        if self._followers >= FOLLOWERS:
            raise Overloaded("http.waiting", f"{FOLLOWERS:,} requests wait already.", "Send it with async_mode=1.", 1.0)
        tape = self._tapes.enter(run_id)
        self._followers += 1
        try:
            yield tape
        finally:
            self._followers -= 1
            self._tapes.leave(run_id)


@contextmanager
def _listening(tape: Tape) -> Generator[None]:
    """Inside, the run's feed may be in memory."""
    tape.listeners += 1
    try:
        yield
    finally:
        tape.listeners -= 1
        if not tape.listeners:
            tape.hush()
