"""How far stages are behind, as the server knows it. What it does not know is None, never 0."""

from typing import Any, NamedTuple

import msgspec

from streams.connection import Client
from streams.keys import Keys
from streams.scripts import Scripts
from streams.topology import Topology

LOOKED_THROUGH = 1_000
"""Entries in which a run is looked for: about 1 ms of the server's time."""


class Lag(msgspec.Struct, frozen=True):
    """Entries of a stage, over all partitions: not yet given to a worker, None where the server lost count; given and
    not yet settled; and put off for a retry."""

    undelivered: int | None
    pending: int
    delayed: int


class _Share(NamedTuple):
    undelivered: int | None
    pending: int


async def lags(client: Client, keys: Keys, topology: Topology) -> dict[str, Lag]:
    """How far each stage is behind, in one round of commands. Raises redis errors."""
    places = [(stage, p) for stage in topology.stages for p in keys.of_stream(stage.reads)]
    looking: Any = client.pipeline(transaction=False)
    for stage, partition in places:
        stream = keys.stream(partition, stage.reads)
        looking.xinfo_groups(stream)
        looking.xlen(stream)
        looking.zcard(keys.delayed(partition, stage.reads))
    replies: list[Any] = await looking.execute(raise_on_error=False)
    found: dict[str, Lag] = {}
    for number, (stage, _) in enumerate(places):
        groups, length, delayed = replies[3 * number : 3 * number + 3]
        for problem in (length, delayed):
            if isinstance(problem, Exception):
                raise problem
        share = _share([] if isinstance(groups, Exception) else groups, stage.name, length)
        before = found.get(stage.name, Lag(0, 0, 0))
        known = before.undelivered is not None and share.undelivered is not None
        found[stage.name] = Lag(
            undelivered=(before.undelivered or 0) + (share.undelivered or 0) if known else None,
            pending=before.pending + share.pending,
            delayed=before.delayed + delayed,
        )
    return found


def _share(groups: list[Any], name: str, length: int) -> _Share:
    """One partition's. A stream that is not there yet has no groups, and a group that is not there yet was given
    nothing."""
    for group in groups:
        if group["name"].decode() == name:
            lag = group["lag"]
            return _Share(None if lag is None else min(lag, length), group["pending"])
    return _Share(length, 0)


async def ahead(client: Client, keys: Keys, stream: str, group: str, run_id: str) -> int | None:
    """How many entries a group is to be given before it comes to the run's, 1,000 for that many or more; None where
    none of the run's waits. Raises redis errors."""
    key = keys.stream(keys.of_run(run_id), stream)
    found = await Scripts(client).ahead(key, group, run_id, LOOKED_THROUGH)
    return found if found >= 0 else None
