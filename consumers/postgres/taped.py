"""A run's tape from the archive: what the streams and the server do not hold any more."""

import msgspec

from consumers.postgres.database import Database, key
from consumers.postgres.packing import unpacked
from consumers.postgres.queries import query
from streams.tape import Entry, Tape


async def add_archived(database: Database, tape: Tape) -> None:
    """Add to a tape what the archive has of its run beyond it. Raises NotReachable, InvalidInput `archive.packing`."""
    held = {(entry.stream, entry.id) for entry in tape.entries}
    async with database.connection() as connection:
        events = await connection.fetch(query("events_of_run"), key(tape.run))
        effects = await connection.fetch(query("effects_of_run"), key(tape.run))
    for row in events:
        stream = row["stream"].partition(":")[2]
        data = msgspec.Raw(unpacked(row["packing"], row["data"]))
        if (stream, row["entry"]) not in held:
            tape.entries.append(Entry(stream, row["entry"], row["type"], data, attempt=0))
    for row in effects:
        tape.effects.setdefault(row["effect"], unpacked(row["packing"], row["data"]))
