"""Reading a stream as it grows, without a consumer group: for doors and eyes, never for work."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
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


async def follow(client: Client, after: dict[str, str], block: int = 1_000) -> AsyncGenerator[Sequence[Seen]]:
    """Batches of entries after the given ids by stream key, oldest first, for ever; an empty one at least each `block`
    ms. In a cluster streams of different slots are read side by side."""
    cursors = dict(after)
    groups = await client.together(cursors)
    reads: dict[asyncio.Task[Any], int] = {}
    try:
        while True:
            for number in set(range(len(groups))).difference(reads.values()):
                streams: Any = {key: cursors[key] for key in groups[number]}
                reads[asyncio.create_task(_read(client, streams, block))] = number
            done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
            batch: list[Seen] = []
            for read in done:
                del reads[read]
                batch += read.result()
            cursors |= {seen.stream: seen.id for seen in batch}
            yield batch
    finally:
        for read in reads:
            read.add_done_callback(lambda read: read.cancelled() or read.exception())  # which nobody else will look at
            read.cancel()


async def _read(client: Client, streams: Any, block: int) -> list[Seen]:
    reply: Any = await client.xread(streams, count=BATCH, block=block)
    return [seen(key.decode(), entry_id, fields) for key, entries in reply or () for entry_id, fields in entries]
