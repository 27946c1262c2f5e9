"""The way over for records: from Redis, where they are kept without a database, into its table."""

from typing import Any, NamedTuple

import msgspec
import structlog

from consumers.postgres.database import Database, key
from consumers.postgres.queries import query
from consumers.redis_store import AT_ONCE, collections_of, forget
from consumers.store import Record
from streams.connection import Client
from streams.keys import Keys

_log: Any = structlog.get_logger()


class Brought(NamedTuple):
    """How many records came over, and how many stay where they are since they can't be read."""

    records: int
    unreadable: int


async def bring(client: Client, keys: Keys, database: Database) -> Brought:
    """Move all records of all projects. What the database has under the same id stays as it is there.

    A record goes from Redis once it is committed here, so it can be killed and begun again. Workers that still keep
    records on Redis should not run meanwhile. Raises redis errors, NotReachable.
    """
    brought = unreadable = 0
    async for collection, project, found in collections_of(client, keys):
        rows: list[tuple[Any, ...]] = []
        ids: list[bytes] = []
        for record_id, data in found.items():
            try:
                record = msgspec.json.decode(data, type=Record)
            except (msgspec.DecodeError, UnicodeDecodeError) as problem:
                unreadable += 1
                _log.warning("store.unreadable", collection=collection, id=record_id, error=str(problem))
                continue
            rows.append((key(project), collection, key(record.id), record.at, data))
            ids.append(record_id)
        for start in range(0, len(rows), AT_ONCE):
            async with database.transaction() as connection:
                await connection.executemany(query("bring_record"), rows[start : start + AT_ONCE])
            await forget(client, keys, collection, project, ids[start : start + AT_ONCE])
        brought += len(rows)
    return Brought(brought, unreadable)
