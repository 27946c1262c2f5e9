"""Putting first events on their streams: once, however often it is tried."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from schemas.envelope import Envelope, derived_id, encode
from schemas.events import Event
from schemas.plan import Trust
from streams.connection import Client
from streams.keys import Keys
from streams.scripts import Scripts


def new_run_id() -> str:
    """A new run's id: 32 hexadecimal characters, of which the first 12 are the time in ms, so ids sort by age."""
    stamp = int(datetime.now(UTC).timestamp() * 1000)
    return f"{stamp:012x}{uuid4().hex[:20]}"


class Publisher:
    """Appends runs' first events. `streams` says which stream an event type enters by."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._keys, self._scripts = client, keys, Scripts(client)

    async def publish(self, events: Sequence[tuple[str, Event]], stream: str, trust: Trust = "user") -> None:
        """Append (run id, event) pairs to `stream`, one round trip for all. Trying again adds nothing twice."""
        pipeline: Any = self._client.pipeline(transaction=False)
        for run_id, event in events:
            partition = self._keys.of_run(run_id)
            envelope = Envelope(
                id=derived_id(run_id, type(event).__name__),
                run=run_id,
                v=event.version,
                at=datetime.now(UTC),
                trust=trust,
                body=event,
            )
            await self._scripts.append_once(
                self._keys.run(partition, run_id),
                self._keys.stream(partition, stream),
                "submitted",
                type(event).__name__,
                encode(envelope),
                client=pipeline,
            )
        await pipeline.execute()
