"""How far stages are behind, as the server knows it. What it does not know is None, never 0."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import msgspec

from streams.connection import Client
from streams.groups import FOLLOWER
from streams.keys import INFERENCE, Keys
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
    """How far each stage is behind, and who follows all streams, where somebody ever did, in one round of commands.
    Raises redis errors."""
    reads = [(stage.name, stage.reads) for stage in topology.stages]
    reads += [(FOLLOWER, stream) for stream in topology.streams()]
    places = [(name, stream, p) for name, stream in reads for p in keys.of_stream(stream)]
    looking: Any = client.pipeline(transaction=False)
    for _, stream, partition in places:
        looking.xinfo_groups(keys.stream(partition, stream))
        looking.xlen(keys.stream(partition, stream))
        looking.zcard(keys.delayed(partition, stream))
    replies: list[Any] = await looking.execute(raise_on_error=False)
    found: dict[str, Lag] = {}
    followed = False
    for number, (name, *_) in enumerate(places):
        groups, length, delayed = replies[3 * number : 3 * number + 3]
        for problem in (length, delayed):
            if isinstance(problem, Exception):
                raise problem
        groups = cast("list[Any]", [] if isinstance(groups, Exception) else groups)
        if name == FOLLOWER:
            followed, delayed = followed or any(group["name"].decode() == name for group in groups), 0
        share = _share(groups, name, length)
        before = found.get(name, Lag(0, 0, 0))
        known = before.undelivered is not None and share.undelivered is not None
        found[name] = Lag(
            undelivered=(before.undelivered or 0) + (share.undelivered or 0) if known else None,
            pending=before.pending + share.pending,
            delayed=before.delayed + delayed,
        )
    if not followed:
        del found[FOLLOWER]
    return found


def _share(groups: list[Any], name: str, length: int) -> _Share:
    """One partition's. A stream that is not there yet has no groups, and a group that is not there yet was given
    nothing."""
    for group in groups:
        if group["name"].decode() == name:
            lag = group["lag"]
            return _Share(None if lag is None else min(lag, length), group["pending"])
    return _Share(length, 0)


async def ahead(client: Client, keys: Keys, lines: Sequence[tuple[str, str]], run_id: str) -> tuple[str, int] | None:
    """In which of these lines, each a stream and its group, the run stands first, all of a partition: the group, and how
    many entries it is to be given before the run's, 1,000 for that many or more. None for none. Raises redis errors."""
    own = keys.of_run(run_id)
    names = [keys.stream(own if own in keys.of_stream(stream) else INFERENCE, stream) for stream, _ in lines]
    line, before = await Scripts(client).ahead(names, [group for _, group in lines], run_id, LOOKED_THROUGH)
    return (lines[line - 1][1], before) if line else None
