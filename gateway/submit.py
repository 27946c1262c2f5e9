"""Goals on their way in, and waiting for their runs to end."""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import NamedTuple

import anyio
from msgspec.structs import replace

from consumers.intake import goal_submitted
from deploy.people import require
from deploy.victoria import Victoria
from schemas.errors import NotReachable, VictoriaError
from schemas.events import AnswerProgressed, GoalSubmitted, RunFinished, RunProgressed
from schemas.plan import Caching
from streams.append import new_run_id
from streams.connection import reachable
from streams.follow import Seen, follow, last_id

PATIENCE = 5.0
"""Seconds for which a server may be away while results are awaited: as long as a restart takes."""

PASSING = ("server.unreachable", "server.loading")
"""What a restart looks like."""

SHOWN = (RunProgressed, AnswerProgressed, RunFinished)
"""What people see of a run."""


class Accepted(NamedTuple):
    """A goal with its run's id, and the line it came from (0: none)."""

    run_id: str
    goal: GoalSubmitted
    line: int = 0


class Refused(NamedTuple):
    """A line that was not accepted, and why."""

    line: int
    error: VictoriaError


def accepted(
    victoria: Victoria,
    goal: str,
    project: str = "",
    session: str = "",
    strategy: str = "",
    expert: str = "",
    cache: Caching = "use",
) -> Accepted:
    """One checked goal. Raises InvalidInput."""
    name = victoria.projects.require(project or victoria.projects.main)
    if strategy or expert:
        require(victoria.settings, strategy, expert)
    submitted = goal_submitted(goal, name, session)
    return Accepted(new_run_id(), replace(submitted, strategy=strategy, expert=expert, cache=cache))


class Results:
    """The results streams from now on. Make it before publishing, so that nothing is missed."""

    def __init__(self, victoria: Victoria, cursors: dict[str, str]) -> None:
        self._victoria, self._cursors = victoria, cursors
        self._batches = follow(victoria.client, cursors)

    @classmethod
    async def from_now(cls, victoria: Victoria, feeds: Iterable[str] = ()) -> "Results":
        """The results of all runs, from what is newest now on, and the `feeds` of some runs."""
        keys = victoria.keys
        streams = [keys.stream(partition, "results") for partition in keys.of_stream("results")]
        cursors = {stream: await last_id(victoria.client, stream) for stream in streams}
        return cls(victoria, cursors | {keys.feed(run_id): "0-0" for run_id in feeds})

    async def of(self, run_ids: Collection[str]) -> AsyncIterator[Seen]:
        """Progress and ends of these runs, and what comes on their feeds, until all have ended.

        Raises NotReachable when the server stays away.
        """
        waiting = set(run_ids)
        while waiting:
            for seen in await self.next():
                envelope = seen.envelope
                if envelope and envelope.run in waiting and isinstance(envelope.body, SHOWN):
                    yield seen
                    if isinstance(envelope.body, RunFinished):
                        waiting.discard(envelope.run)

    async def next(self) -> Sequence[Seen]:
        """What comes next, an empty batch after a second without anything.

        Raises NotReachable when the server stays away; who asks again goes on where it was.
        """
        give_up = anyio.current_time() + PATIENCE
        while True:
            try:
                with reachable(self._victoria.url):
                    batch = await anext(self._batches)
            except NotReachable as problem:
                self._batches = follow(self._victoria.client, self._cursors)  # an error ended the former
                if problem.code not in PASSING or anyio.current_time() > give_up:
                    raise
                await anyio.sleep(0.2)
            else:
                self._cursors |= {seen.stream: seen.id for seen in batch}
                return batch
