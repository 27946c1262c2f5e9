"""Migrations: numbered SQL files, each applied once, in order, in a transaction of its own.

A file is named `0001_what.sql`. One that begins with `-- needs: vector` is for servers with that extension: elsewhere
it waits, and the others go on without it. What was applied is known by its checksum and must not change any more.

One at a time: each transaction first takes the database's lock and then looks what is left, so that any number may be
started at once, and one that is killed leaves nothing half done and nothing locked. The libraries that do this for
other drivers lack the lock or the checksums, or don't speak asyncpg.
"""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from hashlib import sha256
from importlib.resources import files
from typing import Literal, NamedTuple

import asyncpg
import msgspec

from consumers.postgres.database import Connection, Database, quoted
from consumers.postgres.queries import query
from schemas.errors import CouldNotStart, NotReachable

LONGEST = 3600.0
"""Seconds one migration may take."""
WAIT = "60s"
"""How long it waits for a lock, the other migrators' or a table's."""

State = Literal["applied", "pending", "waiting", "changed", "unknown"]
"""`waiting` for an extension; `changed` since it was applied; `unknown` to this version, applied by a newer one."""


class Migration(NamedTuple):
    """One file: its name without `.sql`, and its text."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        """By this it is known whether the file is still what was applied."""
        return sha256(self.text.encode()).hexdigest()

    @property
    def needs(self) -> str:
        """The extension without which it waits, or ""."""
        found = re.match(r"-- needs: (\w+)\n", self.text)
        return found[1] if found else ""


class Standing(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one migration stands; `applied_at` is when it was applied, and `note` says what it waits for."""

    name: str
    state: State
    applied_at: datetime | None = None
    note: str = ""


def shipped() -> tuple[Migration, ...]:
    """The migrations of this version, in order."""
    found = sorted(files("consumers.postgres").joinpath("migrations").iterdir(), key=lambda file: file.name)
    return tuple(
        Migration(file.name.removesuffix(".sql"), file.read_text(encoding="utf-8"))
        for file in found
        if file.name.endswith(".sql")
    )


async def standing(database: Database, migrations: Sequence[Migration] | None = None) -> list[Standing]:
    """Where each migration stands, those unknown to this version last. Changes nothing. Raises NotReachable."""
    async with database.connection() as connection:
        return await _standing(connection, database.schema, migrations or shipped())


async def require(database: Database) -> None:
    """See that the tables are those of this version. Raises NotReachable `database.not_migrated`, CouldNotStart."""
    found = await standing(database)
    _refuse_changed(found)
    if pending := [each.name for each in found if each.state == "pending"]:
        raise NotReachable(
            "database.not_migrated", f"The database lacks {', '.join(pending)}.", "Run `victoria migrate`."
        )


async def migrate(
    database: Database, migrations: Sequence[Migration] | None = None, *, dry_run: bool = False
) -> list[Standing]:
    """Apply what is pending; those that were pending before, as they stand then. With `dry_run` all is done and then
    undone again, so that it is known to work; it holds up others as the real one would.

    Raises CouldNotStart `migration.changed` and `migration.failed`, NotReachable.
    """
    migrations = migrations or shipped()
    done: list[Standing] = []
    if dry_run:
        async with _alone(database, keep=False) as connection:
            while each := await _apply_next(connection, database.schema, migrations):
                done.append(each)
        return done
    while True:
        async with _alone(database) as connection:
            each = await _apply_next(connection, database.schema, migrations)
        if each is None:
            return done
        done.append(each)


@asynccontextmanager
async def _alone(database: Database, *, keep: bool = True) -> AsyncGenerator[Connection]:
    """A transaction that only one migrator has at a time, in a schema with a table of what was applied."""
    async with database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute(f"SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{WAIT}'")
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('victoria migrate', 0))", timeout=LONGEST
            )
            await connection.execute(
                f"CREATE SCHEMA IF NOT EXISTS {quoted(database.schema)};"
                "CREATE TABLE IF NOT EXISTS migrations ("
                "name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            yield connection
        except BaseException:
            await transaction.rollback()
            raise
        await (transaction.commit() if keep else transaction.rollback())


async def _apply_next(connection: Connection, schema: str, migrations: Sequence[Migration]) -> Standing | None:
    """Apply the first pending migration, if there is one; how it stands then."""
    found = await _standing(connection, schema, migrations)
    _refuse_changed(found)
    for each, migration in zip(found, migrations, strict=False):  # what is unknown here comes last
        if each.state == "pending":
            await _apply(connection, migration)
            return msgspec.structs.replace(each, state="applied")
    return None


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        if migration.needs:
            await connection.execute(f"CREATE EXTENSION IF NOT EXISTS {quoted(migration.needs)} SCHEMA public")
        await connection.execute(migration.text, timeout=LONGEST)
        await connection.execute(query("record_migration"), migration.name, migration.checksum)
    except (asyncpg.SyntaxOrAccessError, asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as problem:
        raise CouldNotStart(
            "migration.failed",
            f"{migration.name} can't be applied: {problem}",
            "Nothing of it is; those before it are. Correct what it says, and run `victoria migrate` again.",
        ) from problem


async def _standing(connection: Connection, schema: str, migrations: Sequence[Migration]) -> list[Standing]:
    table = await connection.fetchval("SELECT to_regclass($1)", f"{quoted(schema)}.migrations")
    rows = await connection.fetch(query("migrations_applied")) if table else []
    applied = {row["name"]: row for row in rows}
    found: list[Standing] = []
    for migration in migrations:
        if row := applied.pop(migration.name, None):
            state: State = "applied" if row["checksum"] == migration.checksum else "changed"
            found.append(Standing(migration.name, state, row["applied_at"]))
        elif lack := migration.needs and await _lack(connection, migration.needs):
            found.append(Standing(migration.name, "waiting", note=lack))
        else:
            found.append(Standing(migration.name, "pending"))
    return [*found, *(Standing(name, "unknown", row["applied_at"]) for name, row in applied.items())]


async def _lack(connection: Connection, extension: str) -> str:
    """Why an extension can't be used, if it can't."""
    row = await connection.fetchrow(query("extension"), extension)
    if row is None or row["installed"]:
        return ""
    if not row["available"]:
        return f"the server has no extension {extension}"
    if not await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        return f"an administrator must run: CREATE EXTENSION {extension}"
    return ""


def _refuse_changed(found: Sequence[Standing]) -> None:
    if changed := [each.name for each in found if each.state == "changed"]:
        raise CouldNotStart(
            "migration.changed",
            f"{', '.join(changed)} is not any more what was applied to this database.",
            "Install a version of Victoria that was not altered; a change of tables is a new migration.",
        )
