"""Connections to PostgreSQL, and its errors as ours.

All of an installation lies in one schema, named for its prefix, so that several can share a database. A connection that
broke is replaced by the pool when it is next asked for one; nothing is said twice by itself.
"""

import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg
import msgspec
from asyncpg import exceptions as refused

from schemas.errors import CouldNotStart, InvalidInput, NotReachable, VictoriaError
from streams.connection import masked

if TYPE_CHECKING:  # what is generic there is so only in the stubs
    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    Connection = asyncpg.pool.PoolConnectionProxy

OLDEST = 15
CONNECT, STATEMENT, IDLE = 5.0, 30.0, 60.0
"""Seconds to wait for a connection; for a statement; and for the next one in a transaction, whose locks then go."""
NAME_BYTES, KEY_BYTES = 63, 400
"""What PostgreSQL cuts tables' names at; and how long what is in an index may be, which has its limit too."""


class Database:
    """The tables of one installation, named by `prefix`, on the server at `url`. Connects when first used.

    `connections` is how many there are at most. All that is done in its contexts raises NotReachable while the server
    is away or can't work, with a `database.*` code, and PostgreSQL's own errors for what it was asked.
    """

    def __init__(self, url: str, prefix: str = "victoria", connections: int = 8) -> None:
        self.url, self.schema, self._connections = url, schema_of(prefix), connections
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = anyio.Lock()

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """A connection on which each statement is a transaction."""
        with reachable(self.url):
            pool = self._pool or await self._open()
            async with pool.acquire(timeout=STATEMENT) as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Connection]:
        """A connection on which all is done, or nothing."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def close(self) -> None:
        """End all connections."""
        if self._pool:
            self._pool.terminate()
            self._pool = None

    async def _open(self) -> "asyncpg.Pool[asyncpg.Record]":
        async with self._opening:
            self._pool = self._pool or await asyncpg.create_pool(
                self.url,
                min_size=0,
                max_size=self._connections,
                timeout=CONNECT,
                command_timeout=STATEMENT + CONNECT,  # where the server can't even say that it took too long
                connect=_connect,
                init=_prepare,
                server_settings={
                    "application_name": "victoria",
                    "search_path": path_of(self.schema),
                    "statement_timeout": f"{int(STATEMENT * 1000)}",
                    "idle_in_transaction_session_timeout": f"{int(IDLE * 1000)}",
                    "timezone": "UTC",
                },
            )
            return self._pool


def schema_of(prefix: str) -> str:
    """The schema of an installation: its prefix, where PostgreSQL takes that for a schema's name."""
    if len(prefix.encode()) <= NAME_BYTES and not prefix.startswith("pg_"):
        return prefix
    return f"victoria_{blake2b(prefix.encode(), digest_size=16).hexdigest()}"


def shadow_of(schema: str) -> str:
    """The schema in which read models of a schema are built anew."""
    return f"rebuild_{blake2b(schema.encode(), digest_size=16).hexdigest()}"


def path_of(*schemas: str) -> str:
    """Where names of tables are looked up: in these schemas, in their order."""
    return ", ".join([*map(quoted, schemas), "public", "extensions"])  # pgvector may have been put into either


def quoted(name: str) -> str:
    """A name as it can stand in a statement, whatever it contains."""
    return '"{}"'.format(name.replace('"', '""'))


def key(name: str) -> str:
    """An id as tables have it in their keys: any has one of its own, in characters and a length it takes."""
    if len(name) <= KEY_BYTES // 4 and "\\" not in name and "\0" not in name:
        return name
    escaped = name.replace("\\", r"\\").replace("\0", r"\0")
    if len(escaped.encode()) <= KEY_BYTES:
        return escaped
    return rf"\#{blake2b(name.encode(), digest_size=16).hexdigest()}"


async def _connect(dsn: str | None = None, **options: Any) -> Any:
    try:
        return await asyncpg.connect(dsn, **options)
    except (refused.ClientConfigurationError, refused.UndefinedObjectError, refused.CantChangeRuntimeParamError) as no:
        why = masked(str(no))
    except ValueError:  # its words may be a part of the password
        why = "its host or port is none; in a password, write / as %2F, # as %23 and @ as %40"
    raise InvalidInput("database.url", f"{masked(dsn or '')} can't be used: {why}", "Correct DATABASE_URL.")


async def _prepare(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    if (encoding := connection.get_settings().server_encoding) != "UTF8":
        raise CouldNotStart(
            "database.encoding",
            f"The database keeps text in {encoding}, where not every language's has room.",
            "Create one with ENCODING 'UTF8' TEMPLATE template0, and name it in DATABASE_URL.",
        )
    if connection.get_server_version().major < OLDEST:
        raise CouldNotStart(
            "database.too_old",
            f"The database server has version {connection.get_server_version().major}.",
            f"Victoria needs PostgreSQL {OLDEST} or newer.",
        )
    # What is kept as json is bytes of JSON, for typed decoders; what is jsonb is any data.
    await connection.set_type_codec("json", encoder=bytes.decode, decoder=str.encode, schema="pg_catalog")
    await connection.set_type_codec("jsonb", encoder=_encoded, decoder=msgspec.json.decode, schema="pg_catalog")


def _encoded(value: Any) -> str:
    return storable(msgspec.json.encode(value)).decode()


def storable(data: bytes) -> bytes:
    """JSON without the one character that PostgreSQL can't keep in text."""
    return _NUL.sub(rb"\1\\ufffd", data) if rb"\u0000" in data else data


_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


_LOST = re.compile("clos|released back")


@contextmanager
def reachable(url: str) -> Generator[None]:
    """Turn the trouble inside that is the server's, or the way's to it, into ours, naming the server."""
    try:
        yield
    except refused.PostgresError as cause:
        if ours := _ours(masked(url), cause):
            raise ours from cause
        raise
    except (OSError, TimeoutError, refused.InterfaceError, refused.InternalClientError) as cause:
        # The last is what the driver says where a server dies in the midst of an answer; of a connection that was lost
        # between two statements it says that it is closed, or was released.
        if (
            isinstance(cause, refused.InterfaceError)
            and not isinstance(cause, OSError)
            and not _LOST.search(str(cause))
        ):
            raise  # a mistake in how it is used
        raise _unreachable(masked(url), cause) from cause


def _unreachable(url: str, cause: Exception) -> NotReachable:
    return NotReachable(
        "database.unreachable",
        f"No database answers at {url}: {str(cause) or type(cause).__name__}",
        "Start it, correct DATABASE_URL, or unset it to use the embedded one.",
    )


def _ours(url: str, cause: refused.PostgresError) -> VictoriaError | None:
    match cause:
        case refused.PostgresConnectionError() | refused.OperatorInterventionError() if not isinstance(
            cause, refused.QueryCanceledError
        ):
            return _unreachable(url, cause)
        case refused.QueryCanceledError() | refused.LockNotAvailableError() | refused.TransactionRollbackError():
            return NotReachable(
                "database.slow", f"{url} takes too long: {cause}", "Try again; see what else it is busy with."
            )
        case refused.InvalidAuthorizationSpecificationError() | refused.InsufficientPrivilegeError():
            return NotReachable(
                "database.denied", f"{url} refuses: {cause}", "Check the user, password and rights of DATABASE_URL."
            )
        case refused.InvalidCatalogNameError():
            return NotReachable("database.missing", f"{url} refuses: {cause}", "Create it, or correct DATABASE_URL.")
        case refused.InsufficientResourcesError():
            return NotReachable(
                "database.full", f"{url} has no room: {cause}", "Give it more disk, memory or connections."
            )
        case refused.ReadOnlySQLTransactionError():
            return NotReachable(
                "database.read_only", f"{url} takes no changes: {cause}", "Name the primary server in DATABASE_URL."
            )
        case refused.UndefinedTableError() | refused.UndefinedColumnError() | refused.UndefinedFunctionError():
            return NotReachable(
                "database.not_migrated", f"{url} lacks what this version needs: {cause}", "Run `victoria migrate`."
            )
        case (
            refused.SyntaxOrAccessError()
            | refused.DataError()
            | refused.ProgramLimitExceededError()
            | refused.IntegrityConstraintViolationError()
        ):
            return None  # that is in what was asked of it
        case _:  # its own faults, and those of triggers and functions that others put there
            return NotReachable("database.trouble", f"{url} fails: {cause}", "Its log may say more. Try again.")
