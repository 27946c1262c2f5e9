"""Retention: what is old or too much goes from the streams, but nothing that a group has still to acknowledge.

Entries that wait for a retry are not on a stream, and a run's own keys end with the run, so neither is touched here.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import anyio
import structlog
from redis.exceptions import OutOfMemoryError

from streams.connection import TROUBLE, Client
from streams.groups import FOLLOWER
from streams.keys import INFERENCE, Keys
from streams.scripts import Scripts
from streams.topology import Topology

EVERY = 20.0
"""Seconds between two rounds over all streams, whichever workers make them."""
AT_ONCE = 5_000
"""Entries removed by one script call, which blocks the server for about 1 ms."""

_log: Any = structlog.get_logger()


class Keep(NamedTuple):
    """How much stays: `seconds` and number of `entries` of a stream, and number of `dead` letters of a partition."""

    seconds: float = 7 * 86_400.0
    entries: int = 1_000_000
    dead: int = 100_000


class Retention:
    """Retention of all streams of a topology, by one worker. Several at once disturb nothing."""

    def __init__(self, client: Client, keys: Keys, topology: Topology, worker: str, keep: Keep) -> None:
        self._client, self._keys, self._topology, self._worker, self._keep = client, keys, topology, worker, keep
        self._scripts = Scripts(client)
        self._held: dict[str, str] = {}

    async def run(self) -> None:
        """Make rounds until cancelled, the first at once: a server may know none but short-lived workers."""
        while True:
            for partition in dict.fromkeys((*self._keys.of_stream("results"), INFERENCE)):
                try:
                    if await self._is_my_turn(partition):
                        await self.trim(partition)
                except TROUBLE as problem:
                    _log.warning("retention.failed", partition=partition, error=str(problem))
            await anyio.sleep(EVERY)

    async def trim(self, partition: str) -> int:
        """Trim the streams of one partition as far as they may be; how many entries were removed."""
        removed = 0
        for stream in self._topology.streams():
            if partition in self._keys.of_stream(stream):
                groups = (*self._topology.groups(stream), f"?{FOLLOWER}")
                removed += await self._trim(partition, stream, self._keep.seconds, self._keep.entries, groups)
        # Dead letters are what somebody has still to look at: they don't age, and going without a look is told.
        if dropped := await self._trim(partition, "dead", 0, self._keep.dead, ()):
            _log.warning("retention.dead_dropped", partition=partition, dropped=dropped, kept=self._keep.dead)
        return removed + dropped

    async def _trim(self, partition: str, name: str, seconds: float, entries: int, groups: Sequence[str]) -> int:
        stream, removed = self._keys.stream(partition, name), 0
        while True:
            done = await self._scripts.retain(stream, seconds, entries, AT_ONCE, groups)
            removed += done.removed
            if not done.more:
                break
        if done.held_by and self._held.get(stream) != done.held_by:
            _log.warning("retention.held", stream=stream, group=done.held_by, entries=done.length)
        self._held[stream] = done.held_by
        if removed:
            _log.info("retention.trimmed", stream=stream, removed=removed, left=done.length)
        return removed

    async def _is_my_turn(self, partition: str) -> bool:
        """Whether nobody has been here within the interval, as far as that could be written down."""
        key, milliseconds = self._keys.retaining(partition), int(EVERY * 900)
        try:
            return bool(await cast("Any", self._client).set(key, self._worker, nx=True, px=milliseconds))
        except OutOfMemoryError:
            return True  # now above all
