"""How fast history is written: all that streams say, beside what the database server does with the same rows alone."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import anyio
import msgspec

from consumers.postgres.database import Database, key, quoted
from consumers.postgres.migrate import migrate
from consumers.postgres.packing import packed
from consumers.postgres.projector import AT_ONCE, Projector
from schemas.envelope import Envelope, derived_id, encode
from schemas.events import (
    Event,
    GoalSubmitted,
    GoalUnderstood,
    Metadata,
    PlanProposed,
    RunFinished,
    RunProgressed,
    StepFinished,
    StepReady,
)
from schemas.plan import Plan, Step
from streams.append import new_run_id
from streams.bench import Progress, name_of_server, own_keys, patient
from streams.connection import Client
from streams.keys import Keys
from streams.topology import Topology

RUNS_AT_ONCE = 100
STEP = Step("1", "list_directory schemas", "List what is in the folder schemas.")
OUTPUT = "\n".join(f"a_file_{number}.py" for number in range(20))


class ProjectFigures(msgspec.Struct, frozen=True):
    """`events_per_s` of `events` that one projector has read, packed and written, to the archive and the read models;
    `copy_per_s` is what the server does with the archive's rows alone, in batches of the same size by COPY. `packed` is
    the share of their room that bodies take."""

    events_per_s: float
    copy_per_s: float
    share_of_copy: float
    packed: float
    events: int
    seconds: float
    server: str
    database: str


async def project(
    client: Client, prefix: str, topology: Topology, url: str, events: int, progress: Progress
) -> ProjectFigures:
    """Measure both, on keys and in a schema of its own. Raises redis errors, NotReachable, and VictoriaError
    `bench.stalled`."""
    tell = patient(progress)
    async with own_keys(client, prefix) as keys:
        database = Database(url, keys.prefix)
        try:
            await migrate(database)
            texts = await _say(client, keys, topology, events)
            took = await _projected(Projector(client, keys, topology, database), len(texts), tell)
            copied = await _copied(database, texts)
            async with database.connection() as connection:
                version = connection.get_server_version()
                kept: int = await connection.fetchval("SELECT sum(length(data)) FROM events")
        finally:
            with anyio.CancelScope(shield=True):
                async with database.connection() as connection:
                    await connection.execute(f"DROP SCHEMA IF EXISTS {quoted(database.schema)} CASCADE")
                await database.close()
    return ProjectFigures(
        events_per_s=round(len(texts) / took),
        copy_per_s=round(len(texts) / copied),
        share_of_copy=round(copied / took, 3),
        packed=round(kept / sum(len(data) for *_, data in texts), 3),
        events=len(texts),
        seconds=round(took, 3),
        server=await name_of_server(client),
        database=f"PostgreSQL {version.major}.{version.micro}",
    )


def _of_one_run() -> Sequence[Event]:
    """What a short run says."""
    metadata = Metadata("none", "tool", None, 0, 0, 0.01, ())
    return (
        GoalSubmitted(goal="List the files in the folder schemas", project="victoria"),
        GoalUnderstood(restated="List the files in the folder schemas.", category="simple", kind="fast"),
        RunProgressed(kind="understood", stage="understand", text="List the files in the folder schemas."),
        PlanProposed(restated="List the files in the folder schemas.", plan=Plan("react", (STEP,))),
        RunProgressed(kind="plan", stage="plan", text="list_directory schemas"),
        RunProgressed(kind="task_start", stage="aggregate", text="list_directory schemas", step_id="1"),
        StepReady(step=STEP, goal="List the files in the folder schemas."),
        StepFinished(step_id="1", status="ok", output=OUTPUT, tools=("list_directory",)),
        RunProgressed(kind="task_end", stage="aggregate", text="", step_id="1", status="ok"),
        RunFinished(status="completed", output=OUTPUT, method="rules", metadata=metadata, stages=()),
    )


async def _say(
    client: Client, keys: Keys, topology: Topology, events: int
) -> list[tuple[datetime, str, str, str, str, bytes]]:
    """Put the events of so many runs on their streams; their rows, without where they lie and how they are packed."""
    said, now = _of_one_run(), datetime.now(UTC)
    rows: list[tuple[datetime, str, str, str, str, bytes]] = []
    while len(rows) < events:
        pipeline: Any = client.pipeline(transaction=False)
        for _ in range(RUNS_AT_ONCE):
            run = new_run_id()
            for place, event in enumerate(said):
                at, stream = now + timedelta(microseconds=len(rows)), topology.routes[type(event)][0]
                data = encode(Envelope(derived_id(run, place), run, event.version, at, "user", event))
                rows.append((at, derived_id(run, place), run, type(event).__name__, stream, data))
                pipeline.xadd(keys.stream(keys.of_run(run), stream), {"type": type(event).__name__, "event": data})
        await pipeline.execute()
    return rows


async def _projected(projector: Projector, events: int, tell: Progress) -> float:
    """Seconds until all is written."""
    took, first = 0.0, 0
    async with anyio.create_task_group() as tasks:
        await tasks.start(projector.run)
        while not projector.written:  # what it does once is no part of it
            tell("written", 0, events)
            await anyio.sleep(0.002)
        began, first = perf_counter(), projector.written
        while projector.written < events:
            tell("written", projector.written, events)
            await anyio.sleep(0.005)
        took = perf_counter() - began
        projector.stop()
    return took * events / max(events - first, 1)


async def _copied(database: Database, rows: Sequence[tuple[datetime, str, str, str, str, bytes]]) -> float:
    """Seconds in which the server takes the archive's rows by COPY, each batch a transaction."""
    made = [(at, key(e), key(run), name, stream, "1-1", *packed(data)) for at, e, run, name, stream, data in rows]
    async with database.connection() as connection:
        await connection.execute("CREATE TABLE copied (LIKE events INCLUDING ALL)")
        began = perf_counter()
        for start in range(0, len(made), AT_ONCE):
            await connection.copy_records_to_table(
                "copied", schema_name=database.schema, records=made[start : start + AT_ONCE]
            )
        return perf_counter() - began
