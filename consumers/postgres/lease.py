"""Locks on resources that end by themselves: for work that one process does at a time, whatever becomes of it.

A lock that lived as long as its connection would be held for ever by who is paused. A lease ends when its time is
over, and whoever has it next has a higher fence. All that is written under it is one statement that looks for its own
fence first and keeps the lease's row while it runs: so nobody who has lost it writes, and who stops in between holds up
nobody.
"""

from consumers.postgres.database import Database
from consumers.postgres.queries import query
from schemas.errors import VictoriaError


class LeaseLost(VictoriaError):
    """Somebody else has the resource by now: what was begun under its lease is not gone on with."""

    retryable = True


class Lease:
    """A resource's lease of some `seconds`, by the database's clock, for one `holder`; its name is for people."""

    def __init__(self, database: Database, resource: str, holder: str, seconds: float) -> None:
        self._database, self._resource, self._holder, self._seconds = database, resource, holder, seconds
        self.fence = 0
        """Of the last time it was taken."""

    async def take(self) -> float:
        """Take it if nobody has it: 0, or the seconds for which somebody else has it at most."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(query("lease_take"), self._resource, self._holder, self._seconds)
        if row and row["fence"] is not None:
            self.fence = row["fence"]
            return 0
        return max(0.001, row["seconds"] or 0) if row else 0.001

    async def renew(self) -> None:
        """Have it for its whole time again. Raises LeaseLost."""
        async with self._database.connection() as connection:
            if not await connection.fetchval(query("lease_renew"), self._resource, self.fence, self._seconds):
                raise LeaseLost("lease.lost", f"The lease of {self._resource} is over.", "It is taken again by itself.")

    async def release(self) -> None:
        """Leave it to others, if it is still held."""
        async with self._database.connection() as connection:
            await connection.execute(query("lease_release"), self._resource, self.fence)
