"""Records on PostgreSQL: a row for each, in table `records`."""

from datetime import datetime
from typing import Any, TypeVar

import msgspec
import structlog

from consumers.postgres.database import Database, key
from consumers.postgres.queries import query
from consumers.store import Record, encoded, full, unreadable

T = TypeVar("T", bound=Record)

_log: Any = structlog.get_logger()


class PostgresStore:
    """A project's Store."""

    def __init__(self, database: Database, project: str) -> None:
        self._database, self._project = database, key(project)

    async def add(self, record: Record) -> bool:
        """Keep a new record; False where its id is taken."""
        kind, data = type(record), encoded(record)
        async with self._database.transaction() as connection:
            await connection.execute(query("lock_collection"), kind.collection, self._project)
            kept: int = await connection.fetchval(
                query("add_record"), self._project, kind.collection, key(record.id), record.at, data, kind.most
            )
        if kept < 0:
            raise full(kind)
        return bool(kept)

    async def replace(self, record: Record) -> bool:
        """Keep a record in place of another; False where there is none."""
        return await self._one("replace_record", type(record), record.id, record.at, encoded(record)) is not None

    async def read(self, kind: type[T], record_id: str) -> T | None:
        """The record of that id."""
        found: bytes | None = await self._one("read_record", kind, record_id)
        if found is None:
            return None
        try:
            return msgspec.json.decode(found, type=kind)
        except msgspec.DecodeError as problem:
            raise unreadable(record_id, problem) from problem

    async def remove(self, kind: type[Record], record_id: str) -> bool:
        """Remove the record of that id."""
        return await self._one("remove_record", kind, record_id) is not None

    async def scan(self, kind: type[T], since: datetime | None = None, until: datetime | None = None) -> list[T]:
        """The records of a time, in its order."""
        records: list[T] = []
        async with self._database.connection() as connection:
            rows = await connection.fetch(query("scan_records"), self._project, kind.collection, since, until)
        for row in rows:
            try:
                records.append(msgspec.json.decode(row["data"], type=kind))
            except msgspec.DecodeError as problem:
                _log.warning("store.unreadable", collection=kind.collection, id=row["id"], error=str(problem))
        return records

    async def _one(self, name: str, kind: type[Record], record_id: str, *more: Any) -> Any:
        async with self._database.connection() as connection:
            return await connection.fetchval(query(name), self._project, kind.collection, key(record_id), *more)
