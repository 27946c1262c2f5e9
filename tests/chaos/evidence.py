"""What is left to see when all is over: streams, states and journals on the server, and the ledger beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from schemas.envelope import Envelope
from schemas.events import Event
from streams.connection import Client
from streams.follow import seen
from streams.keys import Keys
from streams.topology import Topology
from tests.chaos import ledger

STATEFUL = "aggregate"


class Found(NamedTuple):
    """One entry. `again` says that a retry put it back, so that its event stood there before."""

    id: str
    envelope: Envelope[Event] | None
    text: str
    again: bool = False


@dataclass(frozen=True)
class Evidence:
    """All the judge looks at. `runs` maps run ids to what their answers must hold, streams stand under their keys,
    `versions` are those of the runs' states, `records` the journals' results by run and effect."""

    runs: Mapping[str, str]
    streams: Mapping[str, Sequence[Found]]
    versions: Mapping[str, int]
    unsettled: Mapping[str, int]
    records: Mapping[str, Mapping[str, str]]
    lines: Sequence[ledger.Line] = field(default=())

    def of(self, stream: str) -> list[Found]:
        """The entries of a stream, of all partitions."""
        return [entry for key, entries in self.streams.items() if key.endswith(f":{stream}") for entry in entries]


async def collect(client: Client, keys: Keys, topology: Topology, runs: Mapping[str, str], path: Path) -> Evidence:
    """Read everything. `path` is the ledger's."""
    server: Any = client
    streams: dict[str, list[Found]] = {}
    for name in (*topology.streams(), "dead"):
        for partition in {*keys.of_stream(name), *(("infer",) if name == "dead" else ())}:
            key = keys.stream(partition, name)
            streams[key] = [_found(key, *entry) for entry in await server.xrange(key)]
    versions: dict[str, int] = {}
    records: dict[str, dict[str, str]] = {}
    for run in runs:
        version: bytes | None = await server.hget(keys.run(keys.of_run(run), run), f"{STATEFUL}.v")
        versions[run] = int(version or 0)
        found: dict[bytes, bytes] = await server.hgetall(keys.journal(run))
        records[run] = {
            effect.decode(): str(msgspec.json.decode(record).get("result", ""))
            for effect, record in found.items()
            if not effect.endswith(b"!")
        }
    left = await unsettled(client, keys, topology)
    return Evidence(runs, streams, versions, left, records, ledger.read(path))


async def unsettled(client: Client, keys: Keys, topology: Topology) -> dict[str, int]:
    """How many entries of each stream's group are not handled: never delivered, pending, or waiting for a retry."""
    server: Any = client
    left: dict[str, int] = {}
    for stage in topology.stages:
        for partition in keys.of_stream(stage.reads):
            key = keys.stream(partition, stage.reads)
            groups: list[dict[str, Any]] = await server.xinfo_groups(key) if await server.exists(key) else []
            for group in groups:
                after: str = f"({group['last-delivered-id'].decode()}"
                waiting: int = len(await server.xrange(key, min=after)) + group["pending"]
                waiting += await server.zcard(keys.delayed(partition, stage.reads))
                if waiting:
                    left[key] = waiting
    return left


def _found(key: str, entry_id: bytes, fields: dict[bytes, bytes]) -> Found:
    entry = seen(key, entry_id, fields)
    return Found(entry.id, entry.envelope, entry.text, b"attempt" in fields)
