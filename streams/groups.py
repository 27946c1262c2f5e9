"""Consumer groups, there before anybody produces: a stream's first entry is for all who will ever read it."""

from typing import Any

from redis.exceptions import ResponseError

from streams.connection import Client
from streams.keys import Keys
from streams.topology import Topology

FOLLOWER = "project"
"""The group of who reads all streams and says nothing. It exists where somebody once did, and from then on counts: what
it has not acknowledged is not trimmed. Who wants it no more lets go: `unfollow`."""


async def create_groups(client: Client, keys: Keys, topology: Topology, follower: str = "") -> None:
    """Make sure that the groups of all stages exist on all partitions, whoever will serve them; or that of a follower,
    on all streams. Raises redis errors.

    Looks first: a full or read-only server that has them all needs to write nothing.
    """
    reads = [(stage.reads, stage.name) for stage in topology.stages]
    wanted: dict[str, list[tuple[str, str]]] = {}
    for stream, group in [(stream, follower) for stream in topology.streams()] if follower else reads:
        for partition in keys.of_stream(stream):
            wanted.setdefault(partition, []).append((keys.stream(partition, stream), group))
    for groups in wanted.values():
        looking: Any = client.pipeline(transaction=False)
        for stream, _ in groups:
            looking.xinfo_groups(stream)
        creating: Any = client.pipeline(transaction=False)
        for (stream, group), found in zip(groups, await looking.execute(raise_on_error=False), strict=True):
            # Without the stream there is an error in place of its groups.
            names: list[bytes] = [] if isinstance(found, Exception) else [each["name"] for each in found]
            if group.encode() not in names:
                creating.xgroup_create(stream, group, id="0", mkstream=True)
        for reply in await creating.execute(raise_on_error=False):
            # Another worker may have been faster.
            if isinstance(reply, Exception) and not (isinstance(reply, ResponseError) and "BUSYGROUP" in str(reply)):
                raise reply


async def unfollow(client: Client, keys: Keys, topology: Topology) -> None:
    """Destroy the follower's group on all streams: from then on nothing waits for it. Raises redis errors."""
    leaving: Any = client.pipeline(transaction=False)
    for stream in topology.streams():
        for partition in keys.of_stream(stream):
            leaving.xgroup_destroy(keys.stream(partition, stream), FOLLOWER)
    for reply in await leaving.execute(raise_on_error=False):
        if isinstance(reply, Exception) and not isinstance(reply, ResponseError):  # that one is of no stream
            raise reply
