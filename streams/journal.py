"""The journal: every effect of every handled event, recorded before anything that follows from it can be seen.

One hash per run. The field of an effect is `<event id>/<name>`; an action that changes things outside has its intent
under the same name with `!` behind. The first record wins: whoever comes second takes what is there.

What only looks, and changes nothing outside, may be recorded with whatever comes next: another effect, or the event's
settlement. Lost before that, it is looked up again, and nobody can tell.

In which order events changed a run's state is written down here too: `<event id>/<stage>.state`, with the settlement.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Literal, cast

import msgspec

from schemas.errors import ErrorInfo, JournalChanged
from schemas.plan import Usage
from streams.connection import Client
from streams.keys import Keys
from streams.records import Records

NOTHING = msgspec.Raw(b"")


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One effect's result: JSON of the answer or of what the action returned, or the error it ended with.

    Of a change of state, `request` is the new state's hash and `result` its version.
    """

    kind: Literal["ask", "call", "state"]
    request: str
    at: datetime
    result: msgspec.Raw = NOTHING
    error: ErrorInfo | None = None
    usage: Usage = Usage()
    seconds: float = 0.0


def request_hash(*parts: Any) -> str:
    """By this a journal knows whether a handler asks for the same thing again. `parts` are what msgspec encodes."""
    return blake2b(msgspec.json.encode(parts, order="deterministic"), digest_size=12).hexdigest()


def state_effect(event_id: str, stage: str) -> str:
    """The name under which it is recorded that an event changed a stage's state."""
    return f"{event_id}/{stage}.state"


def state_hash(data: bytes) -> str:
    """By this a replay knows whether it comes to the same state, which `data` is in JSON."""
    return blake2b(data, digest_size=12).hexdigest()


decoded = msgspec.json.Decoder(Record).decode


def _decoded(data: bytes, effect: str) -> Record:
    try:
        return decoded(data)
    except msgspec.DecodeError as problem:
        raise JournalChanged("journal.broken", f"{effect} has no readable record: {problem}") from problem


def matching(record: Record, request: str, effect: str) -> Record:
    """A record of this very request, with a result or an error. Raises JournalChanged for another request's."""
    if record.request != request:
        raise JournalChanged(
            "journal.changed",
            f"{effect} is recorded for another request.",
            "A handler must ask for the same things in the same order each time; use ctx.now() and ctx.new_id().",
        )
    if record.error is None and not bytes(record.result):
        return msgspec.structs.replace(
            record, error=ErrorInfo("journal.empty", f"{effect} has neither result nor error.")
        )
    return record


class Journal:
    """Reads and writes records on the server."""

    def __init__(self, client: Client, keys: Keys, records: Records | None = None) -> None:
        self._client, self._keys, self._records = client, keys, records or Records(client)

    async def read(self, run_id: str, effect: str) -> Record | None:
        """The record of an effect, if there is one."""
        (data,) = await self._records.read(self._keys.of_run(run_id), self._keys.journal(run_id), effect)
        return None if data is None else _decoded(data, effect)

    async def write(self, run_id: str, effect: str, record: Record) -> Record:
        """Record an effect; the record that holds now, which is an earlier one if there was one."""
        earlier = await self._add(run_id, effect, msgspec.json.encode(record))
        return record if earlier is None else _decoded(earlier, effect)

    async def keep(self, run_id: str, records: Mapping[str, bytes]) -> bool:
        """Write encoded records; False if one of the effects has another one already."""
        earlier = await asyncio.gather(*(self._add(run_id, *record) for record in records.items()))
        return all(found in (None, record) for found, record in zip(earlier, records.values(), strict=True))

    async def answer(self, run_id: str, effect: str, record: Record, reply_to: str) -> None:
        """Record an answer, and give the worker that waits for it a hint on its channel."""
        await self.write(run_id, effect, record)
        await cast("Any", self._client).publish(reply_to, effect)

    async def intend(self, run_id: str, effect: str) -> bool:
        """Record that an action is about to be done; False if that was recorded before."""
        return None is await self._add(run_id, f"{effect}!", datetime.now(UTC).isoformat().encode())

    async def begun(self, run_id: str, effect: str) -> datetime:
        """When an effect was first intended: now, if it was not before."""
        now = datetime.now(UTC)
        earlier = await self._add(run_id, f"{effect}!", now.isoformat().encode())
        return datetime.fromisoformat(earlier.decode()) if earlier else now

    async def withdraw(self, run_id: str, effect: str) -> None:
        """Take an intent back: the action says that it did nothing."""
        await self._client.hdel(self._keys.journal(run_id), f"{effect}!")

    async def _add(self, run_id: str, field: str, value: bytes) -> bytes | None:
        return await self._records.add(self._keys.of_run(run_id), self._keys.journal(run_id), field, value)

    async def close(self) -> None:
        """Give its connections back."""
        await self._records.close()

    async def everything(self, run_id: str) -> dict[str, Record]:
        """What a run asked and called, by effect."""
        found = cast("dict[bytes, bytes]", await self._client.hgetall(self._keys.journal(run_id)))
        records = {k.decode(): decoded(v) for k, v in found.items() if not k.endswith(b"!")}
        return {effect: record for effect, record in records.items() if record.kind != "state"}
