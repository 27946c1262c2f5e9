"""Journals of runs on their way into the archive.

A run's journal is archived when the run ends, and looked at again when its keys would go: what came late is archived
then, and the journal goes, unless something came in that very moment. So nothing goes that is not archived, however
long nobody projects; the settlement that ends a run leaves its journal to whoever follows (see scripts/settle.lua). A
run that does not end is archived as far as it has come, each time.
"""

from collections.abc import Sequence
from datetime import UTC
from typing import Any, cast

import msgspec
import structlog

from consumers.postgres.database import Connection
from consumers.postgres.projection import Recorded
from consumers.postgres.queries import query
from streams.connection import Client
from streams.journal import decoded
from streams.keys import Keys
from streams.scripts import Scripts

AT_ONCE = 200
"""Journals looked at in one go."""
AGAIN = 60.0
"""Seconds until one is looked at again to which something came just then."""

_log: Any = structlog.get_logger()


class Journals:
    """Reads journals from their server, and lets go of those that are archived. `keep`: seconds after a run's end."""

    def __init__(self, client: Client, keys: Keys, keep: float) -> None:
        self._client, self._keys, self._keep, self._scripts = client, keys, keep, Scripts(client)

    async def expect(self, connection: Connection, runs: Sequence[str]) -> None:
        """See that these runs' journals are looked at when it is time."""
        await connection.execute(query("list_journals"), [run.encode() for run in runs], self._keep)

    async def due(self, connection: Connection) -> list[str]:
        """Runs whose journals are to be looked at now, not all at once."""
        rows = await connection.fetch(query("journals_due"), AT_ONCE)
        return [cast("bytes", row["run"]).decode() for row in rows]

    async def read(self, runs: Sequence[str]) -> tuple[list[Recorded], dict[str, int]]:
        """What these runs' journals hold, and how many fields each has. They don't expire by themselves from now on."""
        pipeline: Any = self._client.pipeline(transaction=False)
        for run in runs:
            pipeline.persist(self._keys.journal(run))
            pipeline.hgetall(self._keys.journal(run))
        replies = (await pipeline.execute(raise_on_error=False))[1::2]
        found: list[Recorded] = []
        sizes: dict[str, int] = {}
        for run, journal in zip(runs, cast("list[dict[bytes, bytes] | Exception]", replies), strict=True):
            if isinstance(journal, Exception):
                if "WRONGTYPE" not in str(journal):
                    raise journal
                journal = {}
            sizes[run] = len(journal)
            found += [each for item in sorted(journal.items()) if (each := self._recorded(run, *item))]
        return found, sizes

    async def let_go(self, connection: Connection, sizes: dict[str, int]) -> None:
        """Remove journals whose `sizes` fields are archived, where their runs are over; the others stay expected."""
        looking: Any = self._client.pipeline(transaction=False)
        for run in sizes:
            looking.pttl(self._keys.run(self._keys.of_run(run), run))
        again: list[float | None] = []
        for (run, size), left in zip(sizes.items(), cast("list[int]", await looking.execute()), strict=True):
            if left == -1:
                again.append(self._keep)  # it goes on
            elif left >= 0:
                again.append(left / 1000 + 1)
            else:
                gone = await self._scripts.drop_journal(self._keys.journal(run), size)
                again.append(None if gone else AGAIN)
        await connection.execute(query("journals_looked_at"), [run.encode() for run in sizes], again)

    def _recorded(self, run: str, effect: bytes, data: bytes) -> Recorded | None:
        if effect.endswith(b"!"):
            return None
        try:
            record = decoded(data)
        except msgspec.DecodeError as problem:
            _log.warning("project.unreadable", run=run, effect=effect, error=str(problem))
            return None
        record = msgspec.structs.replace(record, at=record.at.replace(tzinfo=record.at.tzinfo or UTC))
        return Recorded(run, effect.decode(errors="replace"), record, data)


async def released(client: Client, keys: Keys, keep: float) -> int:
    """Let the journals of runs that are over expire in `keep` seconds, where nobody archives them any more; how many."""
    count = 0
    for server in await client.masters():
        of: dict[bytes, str] = {}
        async for name in server.scan_iter(match=f"{{{keys.prefix}:*:journal:*", count=1_000):
            run = name.decode(errors="replace").rpartition(":journal:")[2]
            if name.decode(errors="replace") == keys.journal(run):
                of[name] = run
        looking: Any = client.pipeline(transaction=False)
        for name, run in of.items():
            looking.pttl(name)
            looking.pttl(keys.run(keys.of_run(run), run))
        left = cast("list[int]", await looking.execute()) if of else []
        expiring: Any = client.pipeline(transaction=False)
        for name, journal, run in zip(of, left[::2], left[1::2], strict=True):
            if journal == -1 and run != -1:
                expiring.pexpire(name, int(keep * 1000))
                count += 1
        if count:
            await expiring.execute()
    return count
