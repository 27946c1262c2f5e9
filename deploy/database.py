"""Where the database is: the configured one, or the embedded one of the state folder."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio

from consumers.memory import ASLEEP, NOWHERE
from consumers.postgres.database import Connection, Database
from consumers.postgres.migrate import migrate, require
from deploy.embedded import address, embedded
from deploy.postgres import POSTGRES
from deploy.settings import Settings
from schemas.errors import NotReachable


def folder_of(settings: Settings) -> Path:
    """Where the embedded database has its data."""
    return settings.state_dir / "postgres"


@contextmanager
def database_server(settings: Settings) -> Generator[str]:
    """The URL of the configured database, or of the embedded one, kept running inside. Enter it outside event loops.

    Raises CouldNotStart `database.embedded`.
    """
    if settings.database_url:
        yield settings.database_url
    else:
        with embedded(folder_of(settings), program=POSTGRES) as url:
            yield url


@asynccontextmanager
async def opened_database(settings: Settings, url: str) -> AsyncGenerator[Database]:
    """The database at `url` with this version's tables: the embedded one is migrated, another one must have been.

    Raises NotReachable, also `database.not_migrated`, and CouldNotStart.
    """
    database = Database(url, settings.prefix)
    try:
        await (require(database) if settings.database_url else migrate(database))
        yield database
    finally:
        with anyio.CancelScope(shield=True):
            await database.close()


class Nearby(Database):
    """The embedded database as long as some process keeps it running, which this one does not.

    While none does, what is done here raises NotReachable `database.asleep`, and `database.nowhere` where none ever
    did; in no time either.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__("", settings.prefix)
        self._folder = folder_of(settings)

    @property
    def awake(self) -> bool:
        """Whether some process keeps it running, or has just begun to."""
        return address(self._folder, POSTGRES) is not None

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """A connection on which each statement is a transaction."""
        url = address(self._folder, POSTGRES) or ""
        if url != self.url:  # it listens elsewhere now
            await self.close()
            self.url = url
        if not url:
            raise NotReachable(
                ASLEEP if self._folder.exists() else NOWHERE,
                "The embedded database does not run.",
                "`victoria up` and `victoria serve` keep it running; or set DATABASE_URL to a server you run.",
            )
        async with super().connection() as connection:
            yield connection
