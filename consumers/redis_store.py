"""Records on the Redis or Valkey server that the streams are on: a hash and a sorted set for each collection."""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, TypeVar, cast

import msgspec
import structlog

from consumers.store import Record, encoded, full, unreadable
from streams.connection import Client, reachable
from streams.keys import Keys
from streams.scripts import Scripts

T = TypeVar("T", bound=Record)

AT_ONCE = 500
"""Records that are read with one command."""

_log: Any = structlog.get_logger()


class RedisStore:
    """A project's Store. Each collection lies in one slot of a cluster, of its own."""

    def __init__(self, client: Client, keys: Keys, project: str, url: str = "the server") -> None:
        self._client: Any = client
        self._keys, self._project, self._url = keys, project, url
        self._scripts = Scripts(client)

    async def add(self, record: Record) -> bool:
        """Keep a new record; False where its id is taken."""
        return await self._keep("add", record)

    async def replace(self, record: Record) -> bool:
        """Keep a record in place of another; False where there is none."""
        return await self._keep("replace", record)

    async def read(self, kind: type[T], record_id: str) -> T | None:
        """The record of that id."""
        with self._reachable():
            found: bytes | None = await self._client.hget(self._records(kind), record_id)
        if found is None:
            return None
        try:
            return msgspec.json.decode(found, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise unreadable(record_id, problem) from problem

    async def remove(self, kind: type[Record], record_id: str) -> bool:
        """Remove the record of that id."""
        with self._reachable():
            return await self._scripts.remove_record(self._records(kind), self._times(kind), record_id)

    async def scan(self, kind: type[T], since: datetime | None = None, until: datetime | None = None) -> list[T]:
        """The records of a time, in its order."""
        first = "-inf" if since is None else _milliseconds(since)
        end = "+inf" if until is None else f"({_milliseconds(until)}"
        records: list[T] = []
        with self._reachable():
            ids: list[bytes] = await self._client.zrangebyscore(self._times(kind), first, end)
            for start in range(0, len(ids), AT_ONCE):
                some = ids[start : start + AT_ONCE]
                values: list[bytes | None] = await self._client.hmget(self._records(kind), some)
                for record_id, value in zip(some, values, strict=True):
                    try:
                        if value is not None:  # it was removed meanwhile
                            records.append(msgspec.json.decode(value, type=kind))
                    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
                        _log.warning("store.unreadable", collection=kind.collection, id=record_id, error=str(problem))
        return records

    async def _keep(self, how: str, record: Record) -> bool:
        kind, value = type(record), encoded(record)
        with self._reachable():
            kept = await self._scripts.keep_record(
                self._records(kind), self._times(kind), how, record.id, _milliseconds(record.at), value, kind.most
            )
        if kept < 0:
            raise full(kind)
        return bool(kept)

    def _records(self, kind: type[Record]) -> str:
        return self._keys.records(kind.collection, self._project)

    def _times(self, kind: type[Record]) -> str:
        return self._keys.times(kind.collection, self._project)

    def _reachable(self) -> AbstractContextManager[None]:
        return cast("AbstractContextManager[None]", reachable(self._url))


async def collections_of(client: Client, keys: Keys) -> AsyncGenerator[tuple[str, str, dict[bytes, bytes]]]:
    """All collections of all projects: (collection, project, its records in JSON by id)."""
    begin, _, end = keys.records("\n", "").partition("\n:")
    pattern = re.sub(r"([\[\]*?\\])", r"\\\1", begin) + f"*{end}"
    for server in await client.masters():
        async for name in server.scan_iter(match=pattern, count=AT_ONCE, _type="HASH"):
            text: str = name.decode()
            collection, _, project = text[len(begin) : -len(end)].partition(":")
            yield collection, project, cast("dict[bytes, bytes]", await client.hgetall(name))


async def forget(client: Client, keys: Keys, collection: str, project: str, ids: Sequence[bytes]) -> None:
    """Remove records of a collection."""
    pipeline: Any = client.pipeline(transaction=True)
    pipeline.zrem(keys.times(collection, project), *ids)
    pipeline.hdel(keys.records(collection, project), *ids)
    await pipeline.execute()


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
