"""Where the database is: the configured one, or the embedded one of the state folder."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import anyio

from consumers.postgres.database import Database
from consumers.postgres.migrate import migrate, require
from deploy.embedded import embedded
from deploy.postgres import POSTGRES
from deploy.settings import Settings


@contextmanager
def database_server(settings: Settings) -> Generator[str]:
    """The URL of the configured database, or of the embedded one, kept running inside. Enter it outside event loops.

    Raises CouldNotStart `database.embedded`.
    """
    if settings.database_url:
        yield settings.database_url
    else:
        with embedded(settings.state_dir / "postgres", program=POSTGRES) as url:
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
