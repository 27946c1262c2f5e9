"""The projector: reads all streams and writes what they say to the database, for good.

One projects at a time; others stand by. Who does holds a lock on the very connection it writes with: when that breaks,
or its process dies, nothing more is written under it, and the next one begins. All read under one name, so what the
last one had read and not acknowledged is what the next one begins with; and what one read that does not know yet that
it is out of office is found when all is looked through again.

A batch, its effects and the positions of its streams are one transaction; only then is the batch acknowledged. Killed
in between, it is written again, which changes nothing. A database that never had anything written gets all that is on
the streams, whatever was acknowledged to another one.

Between batches old weeks of the archive go, but nothing that is on the streams as well, and what a rebuild that was
killed has left.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import anyio
import msgspec
import structlog
from anyio.abc import TaskStatus

from consumers.postgres.database import Connection, Database, reachable
from consumers.postgres.journals import Journals
from consumers.postgres.projection import REFUSALS, Partitions, move, said_of, write
from consumers.postgres.queries import query
from consumers.postgres.rebuild import tidy
from schemas.errors import ErrorInfo, NotReachable
from schemas.events import RunFinished
from streams.connection import TROUBLE, Client
from streams.groups import FOLLOWER, create_groups
from streams.keys import Keys
from streams.outcome import DeadLetter
from streams.retention import Keep
from streams.topology import Topology

NAME = FOLLOWER
AT_ONCE, BYTES = 1_000, 16 * 1024 * 1024
"""Entries in one read of one stream, fewer where the last ones were so large that these would exceed the bytes."""
BLOCK = 2_000
"""Milliseconds a read waits for entries."""
STAND_BY, PAUSE, LOOK_AGAIN = 0.5, 0.5, 60.0
"""Seconds between tries to become the one who projects; after trouble; and between looks at what was read before, which
also comes whenever there is nothing new."""
TEND, FORGET = 5.0, 3600.0
"""Seconds between looks for journals that are due; and for weeks of the archive that may go."""
KEEP_ARCHIVE = 31_536_000.0
"""Seconds for which the archive is kept."""
FAR = 253_402_300_799
"""The last second that a date can have."""

_log: Any = structlog.get_logger()


class Entry(msgspec.Struct, frozen=True):
    """One entry as it was delivered; without fields where it was deleted meanwhile."""

    partition: str
    stream: str
    id: bytes
    fields: dict[bytes, bytes]


class Projector:
    """Writes what all streams of a topology say to a database that has its tables. `run` until `stop`. `keep` is how
    many seconds a run's keys stay after its end."""

    def __init__(
        self,
        client: Client,
        keys: Keys,
        topology: Topology,
        database: Database,
        keep: float = Keep().seconds,
        keep_archive: float = KEEP_ARCHIVE,
    ) -> None:
        self._client, self._keys, self._topology, self._database = client, keys, topology, database
        self._stop = anyio.Event()
        self._partitions, self._journals = Partitions(), Journals(client, keys, keep)
        self._keep_archive = keep_archive
        self._largest = 4096
        self.written = 0
        """Entries written so far, those that were written before counted again."""

    def stop(self) -> None:
        """Read no more, write what was read, and return from `run`."""
        self._stop.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Project until `stop`; trouble with either server is waited out. Raises redis errors only at first."""
        await self._create_groups()
        task_status.started()
        while not self._stop.is_set():
            try:
                async with self._database.connection() as connection:
                    if await connection.fetchval(query("lead"), NAME):
                        _log.info("project.leading")
                        await self._lead(connection)
                    else:
                        await self._wait(STAND_BY)
            except* (NotReachable, *TROUBLE) as problems:
                _log.warning("project.trouble", error=str(problems.exceptions[0]))
                await self._recover(str(problems.exceptions))

    async def _recover(self, problem: str) -> None:
        await self._wait(PAUSE)
        if "NOGROUP" in problem:  # the server was wiped
            try:
                await self._create_groups()
            except TROUBLE as again:
                _log.warning("project.regroup_failed", error=str(again))

    async def _create_groups(self) -> None:
        await create_groups(self._client, self._keys, self._topology)
        await create_groups(self._client, self._keys, self._topology, follower=NAME)

    async def _wait(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._stop.wait()

    async def _lead(self, connection: Connection) -> None:
        """Read, one reader for each partition, and write what they have read."""
        if not await connection.fetchval(query("is_projected"), NAME):
            await self._begin_anew()
        read: asyncio.Queue[list[Entry]] = asyncio.Queue(1)
        async with anyio.create_task_group() as tasks:
            for partition in sorted({partition for partition, _ in self._streams()}):
                tasks.start_soon(self._read, partition, read)
            tasks.start_soon(self._write_all, connection, read)
            await self._stop.wait()
            tasks.cancel_scope.cancel()

    def _streams(self) -> list[tuple[str, str]]:
        """All streams by partition and name."""
        return [(p, stream) for stream in self._topology.streams() for p in self._keys.of_stream(stream)]

    async def _begin_anew(self) -> None:
        """Have all that is on the streams delivered again."""
        pipeline: Any = self._client.pipeline(transaction=False)
        for place in self._streams():
            pipeline.xgroup_setid(self._keys.stream(*place), NAME, "0")
        await pipeline.execute()

    async def _write_all(self, connection: Connection, read: "asyncio.Queue[list[Entry]]") -> None:
        tended = forgot = anyio.current_time() - FORGET
        while True:
            entries: list[Entry] = []
            with anyio.move_on_after(TEND):
                entries = await read.get()
            with anyio.CancelScope(shield=True), reachable(self._database.url):
                if entries:
                    await self._write(connection, entries)
                if anyio.current_time() - tended > TEND:
                    tended = anyio.current_time()
                    await self._tend_journals(connection)
                if anyio.current_time() - forgot > FORGET:
                    forgot = anyio.current_time()
                    await self.forget(connection)
                    await tidy(connection, self._database.schema)

    async def _tend_journals(self, connection: Connection) -> None:
        """Archive what came late to journals, and let them go."""
        while runs := await self._journals.due(connection):
            recorded, sizes = await self._journals.read(runs)
            await self._partitions.make(connection, [each.record.at for each in recorded])
            async with connection.transaction():
                await write(connection, self._database.schema, (), recorded)
            await self._journals.let_go(connection, sizes)

    async def forget(self, connection: Connection) -> int:
        """Drop weeks of the archive that are too old and not on the streams any more; how many partitions that were."""
        pipeline: Any = self._client.pipeline(transaction=False)
        for place in self._streams():
            pipeline.xrange(self._keys.stream(*place), count=1)
        firsts = cast("list[list[tuple[bytes, Any]]]", await pipeline.execute())
        until = datetime.now(UTC) - timedelta(seconds=self._keep_archive)
        for (entry, _), *_ in filter(None, firsts):
            until = min(until, datetime.fromtimestamp(min(int(entry.partition(b"-")[0]) / 1000, FAR), UTC))
        async with connection.transaction():
            await connection.execute(query("begin_write"), self._database.schema)
            dropped: int = await connection.fetchval(query("forget_until"), until)
        if dropped:
            _log.info("project.forgot", partitions=dropped, until=until.date().isoformat())
            self._partitions = Partitions()
        return dropped

    async def _read(self, partition: str, read: "asyncio.Queue[list[Entry]]") -> None:
        names = [name for name in self._topology.streams() if partition in self._keys.of_stream(name)]
        line = self._client.line()
        again = dict.fromkeys(names, b"0")  # what was read before, and not acknowledged
        after, looked = again.copy(), anyio.current_time()
        try:
            while True:
                streams = [self._keys.stream(partition, name) for name in names]
                count = max(1, min(AT_ONCE, BYTES // self._largest))
                reply = await line.execute_command(
                    *("XREADGROUP", "GROUP", NAME, NAME, "COUNT", count, "BLOCK", BLOCK),
                    *("STREAMS", *streams, *after.values()),
                )
                entries = self._entries(partition, dict(zip(streams, names, strict=True)), reply)
                for name in names:
                    if after[name] != b">":
                        after[name] = next((e.id for e in reversed(entries) if e.stream == name), b">")
                if entries:
                    await read.put(entries)
                if anyio.current_time() - looked > (LOOK_AGAIN if entries else BLOCK / 1000):
                    after, looked = again.copy(), anyio.current_time()
        finally:
            with anyio.CancelScope(shield=True):
                await line.close()

    def _entries(self, partition: str, names: dict[str, str], reply: Any) -> list[Entry]:
        found: list[Entry] = []
        for stream, entries in cast("list[tuple[bytes, list[tuple[bytes, list[bytes] | None]]]]", reply or []):
            for entry_id, flat in entries:
                fields = dict(zip((flat or [])[::2], (flat or [])[1::2], strict=False))
                found.append(Entry(partition, names[stream.decode()], entry_id, fields))
        self._largest = max((sum(map(len, e.fields.values())) for e in found), default=self._largest) + 1
        return found

    async def _write(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Write entries and acknowledge them. One the database can't take is a dead letter, the others are written."""
        said = [
            each for e in entries if (each := said_of(self._topology, e.partition, e.stream, e.id.decode(), e.fields))
        ]
        recorded, _ = await self._journals.read(
            [s.envelope.run for s in said if isinstance(s.envelope.body, RunFinished)]
        )
        moments = [each.envelope.at for each in said] + [each.record.at for each in recorded]
        try:
            await self._partitions.make(connection, moments)
            async with connection.transaction():
                await write(connection, self._database.schema, said, recorded)
                await self._journals.expect(connection, sorted({each.envelope.run for each in said}))
                await move(connection, NAME, {f"{e.partition}:{e.stream}": e.id.decode() for e in entries})
        except REFUSALS as no:
            if len(entries) > 1:
                for half in (entries[: len(entries) // 2], entries[len(entries) // 2 :]):
                    await self._write(connection, half)
            else:
                await self._give_up(entries[0], no)
            return
        await self._acknowledge(entries)
        self.written += len(entries)

    async def _acknowledge(self, entries: Sequence[Entry]) -> None:
        ids: dict[str, list[bytes]] = {}
        for entry in entries:
            ids.setdefault(self._keys.stream(entry.partition, entry.stream), []).append(entry.id)
        pipeline: Any = self._client.pipeline(transaction=False)
        for stream, some in ids.items():
            pipeline.xack(stream, NAME, *some)
        await pipeline.execute()

    async def _give_up(self, entry: Entry, problem: Exception) -> None:
        _log.error("project.dead", stream=entry.stream, entry=entry.id, error=str(problem))
        text = {k.decode(errors="replace"): v.decode(errors="replace") for k, v in entry.fields.items()}
        letter = DeadLetter(
            stage=NAME,
            stream=entry.stream,
            entry=entry.id.decode(),
            error=ErrorInfo(
                "project.refused", f"The database can't take it: {problem}", "It has no row; all else has."
            ),
            type=text.get("type", ""),
            event=text.get("event", ""),
        )
        await cast("Any", self._client).xadd(
            self._keys.dead(entry.partition), {"type": "DeadLetter", "event": msgspec.json.encode(letter)}
        )
        await self._acknowledge([entry])
