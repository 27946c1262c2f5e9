"""Which runs have ended: what is kept of them has got a time to live."""

from collections.abc import Collection

from streams.connection import Client
from streams.keys import Keys

LOOK_EVERY = 0.25
"""Seconds between looks whether the runs that are worked for still go on."""


async def ended(client: Client, keys: Keys, runs: Collection[str]) -> set[str]:
    """Those of `runs` that have ended, asked for at once. Raises redis errors."""
    pipeline = client.pipeline(transaction=False)
    for run_id in runs:
        pipeline.pttl(keys.run(keys.of_run(run_id), run_id))
    return {run_id for run_id, left in zip(runs, await pipeline.execute(), strict=True) if left >= 0}
