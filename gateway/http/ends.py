"""The ends of runs: one reader of the results streams for all requests that wait."""

import asyncio
from collections.abc import Generator, Iterable
from contextlib import contextmanager

import anyio

from deploy.wiring import Victoria
from gateway.submit import Results
from schemas.errors import NotReachable, Overloaded, VictoriaError
from schemas.events import RunFinished

LOOK_AGAIN = 5.0
"""Seconds between looks at a run's state while nothing is read of its end: its event may have been trimmed unread."""
WAITING = 10_000
"""Requests that may wait at once."""
READ_AGAIN = 0.5
"""Seconds before the streams are read again after the server has stayed away."""

Hope = asyncio.Future[RunFinished | VictoriaError]
"""What a request waits for. A problem is a result too: of an exception that nobody fetches, the loop would complain."""


class Ends:
    """Tells requests of their runs' ends. `follow` runs beside them."""

    def __init__(self, victoria: Victoria) -> None:
        self._victoria = victoria
        self._hopes: dict[str, set[Hope]] = {}
        self._waiting = 0
        self._stopped: VictoriaError | None = None

    async def of(self, run_id: str) -> RunFinished:
        """The run's end, once it is there; at once if it is.

        Raises InvalidInput `run.unknown`; NotReachable when the server stays away, or when this process is to end;
        Overloaded when too many wait. The run goes on in any case.
        """
        with self._hoping(run_id) as hope:  # before the look, so that no end falls in between
            while True:
                if end := (await self._victoria.view(run_id)).finished:
                    return end
                with anyio.move_on_after(LOOK_AGAIN):
                    match await asyncio.shield(hope):
                        case RunFinished() as end:
                            return end
                        case problem:
                            raise problem

    async def follow(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Read results until cancelled."""
        results = await Results.from_now(self._victoria)
        task_status.started()
        while True:
            try:
                batch = await results.next()
            except NotReachable as problem:
                self._disappoint(problem)
                await anyio.sleep(READ_AGAIN)
                continue
            for seen in batch:
                if seen.envelope and isinstance(seen.envelope.body, RunFinished):
                    _tell(self._hopes.get(seen.envelope.run, ()), seen.envelope.body)

    def stop(self) -> None:
        """Nobody is to wait here any more."""
        self._stopped = NotReachable(
            "http.stopping",
            "This server stops; the run goes on.",
            "Send the request again with the same Idempotency-Key, or ask GET /run/status.",
        )
        self._disappoint(self._stopped)

    @contextmanager
    def _hoping(self, run_id: str) -> Generator[Hope]:
        if self._stopped:
            raise self._stopped
        if self._waiting >= WAITING:
            raise Overloaded("http.waiting", f"{WAITING:,} requests wait already.", "Send it with async_mode=1.", 1.0)
        hope: Hope = asyncio.get_running_loop().create_future()
        hopes = self._hopes.setdefault(run_id, set())
        hopes.add(hope)
        self._waiting += 1
        try:
            yield hope
        finally:
            self._waiting -= 1
            hope.cancel()
            hopes.discard(hope)
            if not hopes:
                self._hopes.pop(run_id, None)

    def _disappoint(self, problem: VictoriaError) -> None:
        for hopes in self._hopes.values():
            _tell(hopes, problem)


def _tell(hopes: Iterable[Hope], outcome: RunFinished | VictoriaError) -> None:
    for hope in hopes:
        if not hope.done():
            hope.set_result(outcome)
