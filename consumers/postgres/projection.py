"""What events say as rows: a pure function, and the statements that write its rows.

Rows are upserts by what made them, and each column is said by one type of event, of which the first or the last counts:
written twice, or in another order, they come to the same.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import asyncpg
import msgspec

from consumers.postgres.database import Connection, key, path_of, shadow_of, storable
from consumers.postgres.packing import packed
from consumers.postgres.queries import query
from schemas.envelope import Envelope, decode
from schemas.errors import InvalidInput
from schemas.events import (
    Event,
    GoalSubmitted,
    GoalUnderstood,
    PlanProposed,
    RunFinished,
    StepFinished,
    StepReady,
)
from streams.journal import Record
from streams.topology import Topology

LONG_AGO, AHEAD = timedelta(days=400), timedelta(days=35)
"""Events further from now than this lie in no partition of their week: so many can't be made by odd dates."""
DAY = timedelta(days=1)
REFUSALS = (asyncpg.DataError, asyncpg.ProgramLimitExceededError, asyncpg.IntegrityConstraintViolationError)
"""What the database can't take raises one of these."""


class Said(NamedTuple):
    """An event as it was on its stream (`<partition>:<stream>`), with its entry's id and its text."""

    stream: str
    entry: str
    envelope: Envelope[Event]
    data: bytes


class Recorded(NamedTuple):
    """An effect as it is in its run's journal."""

    run: str
    effect: str
    record: Record
    data: bytes


Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows by the statement that writes them."""


def rows(said: Sequence[Said]) -> Rows:
    """The rows that events make beside their own."""
    found: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for each in said:
        envelope = each.envelope
        run, at = key(envelope.run), envelope.at
        match envelope.body:
            case GoalSubmitted() as goal:
                found["project_submitted"].append(
                    {
                        "id": run,
                        "at": at,
                        "goal": goal.goal,
                        "project": goal.project,
                        "session": key(goal.session),
                        "strategy": goal.strategy,
                        "expert": goal.expert,
                    }
                )
            case GoalUnderstood() as goal:
                found["project_understood"].append(
                    {"id": run, "at": at, "restated": goal.restated, "category": goal.category, "kind": goal.kind}
                )
            case PlanProposed(plan=plan, revision=revision):
                found["project_planned"].append({"id": run, "strategy": plan.strategy, "revision": revision})
                found["project_steps_planned"] += [
                    {"run": run, "id": key(s.id), "revision": revision, "title": s.title, "expert": s.expert}
                    for s in plan.steps
                ]
            case StepReady(step=step):
                found["project_steps_started"].append({"run": run, "id": key(step.id), "at": at})
            case StepFinished() as end:
                found["project_steps_finished"].append(
                    {
                        "run": run,
                        "id": key(end.step_id),
                        "at": at,
                        "status": end.status,
                        "expert": end.expert,
                        "agent": end.agent,
                        "source": end.source,
                        "tools": end.tools,
                        "output": end.output,
                        "error": end.error,
                    }
                )
            case RunFinished() as end:
                row = {"id": run, "at": at, "status": end.status, "method": end.method, "trust": envelope.trust}
                found["project_finished"].append({**row, "error": end.error})
                found["project_answers"].append({**row, "output": end.output, "metadata": end.metadata})
            case _:
                pass
    return found


def said_of(topology: Topology, partition: str, stream: str, entry: str, fields: Mapping[bytes, bytes]) -> Said | None:
    """An entry's event, where this is the first of the streams that it comes on. What is none, its stage tells."""
    try:
        envelope = decode(fields[b"type"].decode(), fields[b"event"])
    except (InvalidInput, KeyError, UnicodeDecodeError):
        return None
    routes = topology.routes.get(type(envelope.body), ())
    if stream in routes and stream != routes[0] and not stream.startswith("infer."):
        return None
    return Said(f"{partition}:{stream}", entry, envelope, fields[b"event"])


async def write(connection: Connection, schema: str, said: Sequence[Said], recorded: Sequence[Recorded]) -> None:
    """Archive events and effects, and write what they say to the read models; to those of a rebuild too, if one is
    under way. Within a transaction, it is written whole."""
    rebuilding = await connection.fetchval(query("begin_write"), schema, column=1)
    await archive(connection, said, recorded)
    await fold(connection, said)
    if rebuilding:
        await fold_shadow(connection, schema, said)


async def archive(connection: Connection, said: Sequence[Said], recorded: Sequence[Recorded]) -> None:
    """Write events and effects themselves."""
    if said:
        # Sorted, so that who writes the same at once never waits for one who waits for him.
        events = sorted(
            (e.at, key(e.id), key(e.run), type(e.body).__name__, stream, entry, *packed(data))
            for stream, entry, e, data in said
        )
        await connection.execute(query("project_events"), *zip(*events, strict=True))
    if recorded:
        effects = sorted(
            (r.at, key(run), key(effect), r.kind, r.usage.model, r.seconds, *packed(data))
            for run, effect, r, data in recorded
        )
        await connection.execute(query("project_effects"), *zip(*effects, strict=True))


async def fold(connection: Connection, said: Sequence[Said]) -> None:
    """Write what events say to the read models."""
    for statement, found in sorted(rows(said).items()):
        await connection.execute(query(statement), storable(msgspec.json.encode(found)))


async def fold_shadow(connection: Connection, schema: str, said: Sequence[Said]) -> None:
    """Write what events say to the read models that are built anew, within a transaction."""
    # One after the other: each takes its rows in an order of its own.
    await connection.execute(query("hold_shadow"), schema)
    await connection.execute(f"SET LOCAL search_path TO {path_of(shadow_of(schema), schema)}")
    await fold(connection, said)
    await connection.execute(f"SET LOCAL search_path TO {path_of(schema)}")


async def move(connection: Connection, projection: str, last: Mapping[str, str]) -> None:
    """Say how far a projection has come: the last entry of each stream."""
    ids = [entry.split("-") for entry in last.values()]
    await connection.execute(
        query("move_positions"), projection, list(last), [int(ms) for ms, _ in ids], [int(seq) for _, seq in ids]
    )


class Partitions:
    """Sees that there are partitions for what is written. Knows which ones it has seen to."""

    def __init__(self) -> None:
        self._there: set[date] = set()

    async def make(self, connection: Connection, moments: Iterable[datetime]) -> None:
        """Make those that these moments need, and the ones of the weeks after them."""
        today = datetime.now(UTC).date()
        days = {today, *(moment.date() for moment in moments)}
        # In whatever zone a moment was said, in UTC it is of that day or one beside it.
        near = [day for day in days if today - LONG_AGO < day < today + AHEAD]
        weeks = {_monday(day + more) for day in near for more in (-DAY, DAY, 7 * DAY)}
        for week in sorted(weeks - self._there):
            await connection.execute(query("make_partitions"), week, week)
            self._there.add(week)


def _monday(day: date) -> date:
    return day - day.weekday() * DAY
