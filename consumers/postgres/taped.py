"""A run's tape from the archive: what the streams and the server do not hold any more."""

import msgspec

from consumers.postgres.database import Database, key
from consumers.postgres.queries import query
from schemas.errors import InvalidInput
from streams.tape import Entry, Tape


async def add_archived(database: Database, tape: Tape) -> None:
    """Add to a tape what the archive has of its run beyond it. Raises NotReachable, InvalidInput `archive.packing`."""
    held = {(entry.stream, entry.id) for entry in tape.entries}
    async with database.connection() as connection:
        events = await connection.fetch(query("events_of_run"), key(tape.run))
        effects = await connection.fetch(query("effects_of_run"), key(tape.run))
    for row in events:
        stream = row["stream"].partition(":")[2]
        if (stream, row["entry"]) not in held:
            tape.entries.append(
                Entry(stream, row["entry"], row["type"], msgspec.Raw(_body(row["packing"], row["data"])))
            )
    for row in effects:
        tape.effects.setdefault(row["effect"], _body(row["packing"], row["data"]))


def _body(packing: int, data: bytes) -> bytes:
    if packing:
        raise InvalidInput("archive.packing", f"The archive has a packing {packing}.", "Upgrade this program.")
    return data
