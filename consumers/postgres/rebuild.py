"""Read models made anew: runs, steps and answers, folded from the archive and what is on the streams, and nothing else.

They are built in a schema of their own and put in place in one transaction, so readers see the old ones or the new,
whole. Whoever projects meanwhile writes to both (see `projection.write`), so nothing is missed; it is held up only
while they are put in place. Who is killed leaves what was there as it was, and a schema that who projects removes.

Rows of runs that are older than the archive stay as they are.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

import msgspec
import structlog
from zstandard import ZstdError

from consumers.postgres.database import Connection, Database, quoted, shadow_of
from consumers.postgres.journals import Journals
from consumers.postgres.packing import unpacked
from consumers.postgres.projection import REFUSALS, Partitions, Said, archive, fold_shadow, said_of
from consumers.postgres.queries import query
from schemas.envelope import decode
from schemas.errors import CouldNotStart, InvalidInput
from schemas.events import RunFinished
from streams.connection import Client
from streams.keys import Keys
from streams.topology import Topology

AT_ONCE, BYTES = 2_000, 32 * 1024 * 1024
"""Events in one transaction, fewer where the last ones were so large that these would exceed the bytes."""
LONGEST = 3_600.0
"""Seconds that any one statement of it may take."""

_log: Any = structlog.get_logger()

Tell = Callable[[str, int, int], None]
"""Hears how far it is: of what, how many are done, of how many."""


class Model(NamedTuple):
    """A read model: its table, the column that names a run, and those of its key."""

    table: str
    run: str
    same: str


MODELS = (Model("steps", "run", "run id"), Model("answers", "run", "run"), Model("runs", "id", "id"))
"""Runs come last: by them it is known which runs are older than the archive."""


class Rebuilt(msgspec.Struct, frozen=True):
    """One table: its rows, the checksum over all of them before and after, and how many were not as they should be."""

    table: str
    rows: int
    before: str
    after: str
    changed: int


class Rebuild(msgspec.Struct, frozen=True):
    """What came of it. `unreadable` events of the archive are of a type or version that this program does not know."""

    tables: tuple[Rebuilt, ...]
    events: int
    unreadable: int


class Checksum(NamedTuple):
    """Rows of a table, and a number that is the same only for the same rows, in whatever order they lie."""

    rows: int
    digest: str


async def rebuild(
    client: Client, keys: Keys, topology: Topology, database: Database, keep: float, tell: Tell
) -> Rebuild:
    """Rebuild all read models. Raises CouldNotStart `rebuild.running`, NotReachable, redis errors."""
    schema, shadow = database.schema, shadow_of(database.schema)
    async with database.connection() as connection:
        await connection.execute("SET statement_timeout = 0")
        if not await connection.fetchval(query("rebuild_alone"), schema):
            raise CouldNotStart("rebuild.running", "The read models are being rebuilt already.", "Wait for its end.")
        await connection.execute(_new_tables(shadow))
        await connection.fetchval(query("begin_rebuild"), schema, timeout=LONGEST)
        before = {model.table: await _checksum(connection, model.table) for model in MODELS}
        await _archive_streams(client, keys, topology, connection, keep, tell)
        events, unreadable = await _fold_archive(connection, schema, tell)
        changed: dict[str, int] = {}
        async with connection.transaction():
            await connection.fetchval(query("hold_projecting"), schema, timeout=LONGEST)
            for table, run, same in MODELS:
                changed[table] = await connection.fetchval(
                    query("put_in_place"), shadow, table, run, same, timeout=LONGEST
                )
            await connection.execute(_no_tables(shadow))
            # Nobody has begun to write who does not wait for this transaction, and then sees that it is over.
            await connection.fetchval(query("end_rebuild"), schema)
        after = {model.table: await _checksum(connection, model.table) for model in MODELS}
    tables = (
        Rebuilt(table, after[table].rows, before[table].digest, after[table].digest, changed[table])
        for table in ("runs", "steps", "answers")
    )
    return Rebuild(tuple(tables), events, unreadable)


async def tidy(connection: Connection, schema: str) -> bool:
    """Remove what a rebuild that was killed has left behind; whether there was anything."""
    shadow = shadow_of(schema)
    async with connection.transaction():
        left: bool = await connection.fetchval(query("rebuild_left"), schema, shadow)
        if left:
            await connection.execute(_no_tables(shadow))
    return left


def _tables(shadow: str) -> list[str]:
    return [f"{quoted(shadow)}.{quoted(model.table)}" for model in MODELS]


def _new_tables(shadow: str) -> str:
    made = "".join(
        f"CREATE TABLE {table} (LIKE {quoted(model.table)} INCLUDING ALL);"
        for table, model in zip(_tables(shadow), MODELS, strict=True)
    )
    return f"{_no_tables(shadow)}; CREATE SCHEMA {quoted(shadow)}; {made}"


def _no_tables(shadow: str) -> str:
    return f"DROP SCHEMA IF EXISTS {quoted(shadow)} CASCADE"


async def _checksum(connection: Connection, table: str) -> Checksum:
    row = await connection.fetchrow(query(f"checksum_{table}"), timeout=LONGEST)
    assert row  # noqa: S101 - an aggregate has one
    return Checksum(row["rows"], row["digest"])


async def _archive_streams(
    client: Client, keys: Keys, topology: Topology, connection: Connection, keep: float, tell: Tell
) -> None:
    """See that all that is on the streams is archived, whether it was projected or not."""
    server, journals, partitions = cast("Any", client), Journals(client, keys, keep), Partitions()

    async def take(said: Sequence[Said]) -> None:
        recorded, _ = await journals.read([each.envelope.run for each in said if ends(each)])
        moments = [each.envelope.at for each in said] + [each.record.at for each in recorded]
        try:
            await partitions.make(connection, moments)
            async with connection.transaction():
                await archive(connection, said, recorded)
                await journals.expect(connection, sorted({each.envelope.run for each in said}))
        except REFUSALS as problem:
            if len(said) > 1:
                await take(said[: len(said) // 2])
                await take(said[len(said) // 2 :])
            else:
                _log.error("rebuild.refused", stream=said[0].stream, entry=said[0].entry, error=str(problem))

    for name in topology.streams():
        for partition in keys.of_stream(name):
            stream, after, count, done = keys.stream(partition, name), "-", AT_ONCE, 0
            total = await server.xlen(stream)
            while entries := await server.xrange(stream, min=after, count=count):
                found = (said_of(topology, partition, name, entry.decode(), fields) for entry, fields in entries)
                if said := [each for each in found if each]:
                    await take(said)
                after, done = f"({entries[-1][0].decode()}", done + len(entries)
                count = _count([sum(map(len, fields.values())) for _, fields in entries])
                tell(f"entries of {name}", done, max(done, total))


def ends(said: Said) -> bool:
    """Whether a run ends with it."""
    return isinstance(said.envelope.body, RunFinished)


def _count(sizes: Sequence[int]) -> int:
    """How many to read next, so that they are not too much, after ones of these sizes."""
    return max(1, min(AT_ONCE, BYTES // (max(sizes) + 1)))


async def _fold_archive(connection: Connection, schema: str, tell: Tell) -> tuple[int, int]:
    """Fold all events of the archive into the shadow's tables; how many, and how many can't be read."""
    total: int = await connection.fetchval("SELECT count(*) FROM events", timeout=LONGEST)
    done = unreadable = 0
    at, last, count = datetime.min.replace(tzinfo=UTC), "", AT_ONCE
    while rows := await connection.fetch(query("archived_after"), at, last, count, timeout=LONGEST):
        said: list[Said] = []
        for _, _, name, packing, data in rows:
            try:
                said.append(Said("", "", decode(name, whole := unpacked(packing, data)), whole))
            except (InvalidInput, ZstdError):
                unreadable += 1
        async with connection.transaction():
            await fold_shadow(connection, schema, said)
        at, last, done = rows[-1]["at"], rows[-1]["id"], done + len(rows)
        count = _count([len(row["data"]) * 4 for row in rows])
        tell("events", done, max(done, total))
    return done, unreadable
