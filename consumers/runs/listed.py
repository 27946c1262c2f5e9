"""Runs in a list, the newest first: from history, and what that does not have yet from the streams, as far as those go.

History is behind by what nobody has projected, so of runs that have not ended there it is looked up how they stand.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

import msgspec
from msgspec.structs import replace

from consumers.postgres.database import Database
from consumers.postgres.projector import NAME as PROJECTION
from consumers.postgres.queries import query
from consumers.runs.state import STAGE, RunState
from consumers.runs.view import status_of
from schemas.envelope import Envelope
from schemas.events import GoalSubmitted
from schemas.plan import RunStatus
from streams.append import SUBMITTED
from streams.connection import Client
from streams.keys import Keys
from streams.ranges import FIRST, EntryId
from streams.scan import newest_first

PAGE = 200
"""Runs that are looked at together."""
LOOKED = 20_000
"""Runs that are looked at, at most, on the streams and again in history."""
LONG_AGO, FAR = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
CLOCKS = timedelta(minutes=1)
"""By which those of doors and servers may differ."""
INTAKE = "intake"


class RunRow(msgspec.Struct, frozen=True):
    """A run in a list. `seconds` is what it took, None before its end. `expert` is who was asked for, or has its first
    step; it and `strategy` are "" where that is not known yet."""

    id: str
    status: RunStatus
    submitted_at: datetime
    seconds: float | None
    strategy: str
    expert: str
    project: str
    goal: str


class Which(NamedTuple):
    """Which runs: those that fit all of these that are not empty."""

    status: str = ""
    projects: tuple[str, ...] = ()
    since: datetime = LONG_AGO

    def __call__(self, row: RunRow) -> bool:
        """Whether a run is one of them."""
        fits = self.status in ("", row.status) and (not self.projects or row.project in self.projects)
        return fits and row.submitted_at >= self.since


class Listed(NamedTuple):
    """The runs that were found. `whole`: all were looked at that might be among them."""

    rows: list[RunRow]
    whole: bool


class Listing:
    """The runs of a server, and those of a database where there is one."""

    def __init__(self, client: Client, keys: Keys, database: Database | None = None) -> None:
        self._client: Any = client
        self._keys, self._database = keys, database

    async def newest(self, which: Which, limit: int) -> Listed:
        """The newest ones, at most `limit`. Raises NotReachable where the database is away, redis errors."""
        found: dict[str, RunRow] = {}
        whole = True
        for pages in (self._of_streams(which), self._of_history(which)):
            fitting = looked = 0
            async with aclosing(pages):
                async for page in pages:
                    new = {row.id: row for row in page if which(row) and row.id not in found}
                    found |= new
                    fitting, looked = fitting + len(new), looked + PAGE
                    if fitting >= limit:
                        break
                    if looked >= LOOKED:
                        whole = False
                        break
        rows = sorted(found.values(), key=lambda row: (row.submitted_at, row.id), reverse=True)
        return Listed(rows[:limit], whole or len(rows) >= limit)

    async def _of_streams(self, which: Which) -> AsyncGenerator[list[RunRow]]:
        """Pages of what is on the streams, and may not be in history yet."""
        first = await self._projected()
        if which.since > LONG_AGO + CLOCKS:
            first = max(first, EntryId(max(0, int((which.since - CLOCKS).timestamp() * 1000)), 0))
        streams = [self._keys.stream(partition, INTAKE) for partition in self._keys.of_stream(INTAKE)]
        page: list[Envelope[GoalSubmitted]] = []
        async with aclosing(newest_first(cast("Client", self._client), streams, first)) as entries:
            async for entry in entries:
                if entry.envelope and isinstance(entry.envelope.body, GoalSubmitted):
                    page.append(cast("Envelope[GoalSubmitted]", entry.envelope))
                if len(page) == PAGE:
                    yield await self._on_server(page)
                    page = []
        if page:
            yield await self._on_server(page)

    async def _projected(self) -> EntryId:
        """Up to where history has all of all partitions."""
        if not self._database:
            return FIRST
        streams = [f"{partition}:{INTAKE}" for partition in self._keys.of_stream(INTAKE)]
        async with self._database.connection() as connection:
            rows = await connection.fetch(query("positions_of"), PROJECTION, streams)
        if len(rows) < len(streams):
            return FIRST
        return min(EntryId(int(row["ms"]), int(row["seq"])) for row in rows)

    async def _on_server(self, submitted: Sequence[Envelope[GoalSubmitted]]) -> list[RunRow]:
        """Those that the server still knows."""
        states = await self._states([each.run for each in submitted])
        return [
            _as_it_stands(
                RunRow(each.run, "queued", each.at, None, goal.strategy, goal.expert, goal.project, goal.goal), state
            )
            for each in submitted
            if (state := states.get(each.run)) and (goal := each.body)
        ]

    async def _of_history(self, which: Which) -> AsyncGenerator[list[RunRow]]:
        """Pages of what is in history."""
        if not self._database:
            return
        # There a run is running until it has ended.
        statuses = {which.status, "running"} & {"completed", "failed", "cancelled", "running"} if which.status else ()
        at, last = FAR, ""
        while True:
            async with self._database.connection() as connection:
                found = await connection.fetch(
                    query("runs_newest"), list(statuses), list(which.projects), which.since, at, last, PAGE
                )
            rows = [msgspec.convert(dict(row), RunRow) for row in found]
            states = await self._states([row.id for row in rows if row.status == "running"])
            if rows:
                yield [_as_it_stands(row, states[row.id]) if row.id in states else row for row in rows]
            if len(rows) < PAGE:
                return
            at, last = rows[-1].submitted_at, rows[-1].id

    async def _states(self, runs: Sequence[str]) -> dict[str, RunState]:
        """What is known of those that the server still knows."""
        pipeline = self._client.pipeline(transaction=False)
        for run in runs:
            pipeline.hmget(self._keys.run(self._keys.of_run(run), run), [SUBMITTED, STAGE])
        found = cast("list[list[bytes | None]]", await pipeline.execute() if runs else [])
        return {
            run: msgspec.json.decode(state, type=RunState) if state else RunState()
            for run, (submitted, state) in zip(runs, found, strict=True)
            if submitted
        }


def _as_it_stands(row: RunRow, state: RunState) -> RunRow:
    step = state.plan.steps[0] if state.plan and state.plan.steps else None
    return replace(
        row,
        status=status_of(state),
        seconds=state.finished.metadata.seconds if state.finished else None,
        strategy=state.plan.strategy if state.plan else row.strategy,
        expert=row.expert or (step and (state.steps[step.id].expert or step.expert)) or "",
    )
