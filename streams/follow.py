"""Reading a stream as it grows, without a consumer group: for doors and eyes, never for work."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import msgspec

from schemas.envelope import Envelope, decode
from schemas.errors import InvalidInput
from schemas.events import Event
from streams.connection import Client

BATCH = 200


class Seen(NamedTuple):
    """One entry: its stream's key and id, and its event, or None with the raw text where it isn't one."""

    stream: str
    id: str
    type: str
    envelope: Envelope[Event] | None
    text: str


def seen(stream: str, entry_id: bytes, fields: dict[bytes, bytes]) -> Seen:
    """An entry made readable, whatever it is."""
    type_name = fields.get(b"type", b"").decode(errors="replace")
    data = fields.get(b"event")
    envelope = None
    if data is not None:
        try:
            envelope = decode(type_name, data)
        except InvalidInput:
            envelope = None
    shown = {k.decode(errors="replace"): v.decode(errors="replace") for k, v in fields.items()}
    text = data.decode(errors="replace") if data is not None else msgspec.json.encode(shown).decode()
    return Seen(stream, entry_id.decode(), type_name or "?", envelope, text)


async def last_id(client: Client, stream: str) -> str:
    """The id after which only new entries come."""
    newest: Any = await client.xrevrange(stream, count=1)
    return newest[0][0].decode() if newest else "0-0"


async def follow(client: Client, after: dict[str, str], block: int = 1_000) -> AsyncIterator[Sequence[Seen]]:
    """Batches of entries after the given ids by stream key, oldest first, for ever; an empty one each `block` ms.

    All keys must lie in one slot.
    """
    cursors = dict(after)
    while True:
        reply: Any = await client.xread({**cursors}, count=BATCH, block=block)
        batch: list[Seen] = []
        for key, entries in reply or ():
            stream = key.decode()
            batch += [seen(stream, entry_id, fields) for entry_id, fields in entries]
            if entries:
                cursors[stream] = entries[-1][0].decode()
        yield batch
