"""A measurement ends, also when what it measures vanishes under it."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from schemas.errors import VictoriaError
from streams import bench
from streams.bench import chain, drain, drive, fill, quiet, working
from tests.workshop import Workshop, eventually, wipe


async def hop(workshop: Workshop) -> None:
    await fill(workshop.client, workshop.keys, 20_000, quiet)
    await drain(workshop.client, workshop.keys, 20_000, 256, quiet)


async def run(workshop: Workshop) -> None:
    async with working(workshop.client, workshop.keys, chain()):
        await drive(workshop.client, workshop.keys, 2_000, 256)


@pytest.mark.parametrize("measure", [hop, run])
async def test_a_measurement_whose_streams_are_deleted_midway_gives_up_and_says_so(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, measure: Callable[[Workshop], Awaitable[None]]
) -> None:
    monkeypatch.setattr(bench, "PATIENCE", 1.0)
    results = workshop.keys.stream("0", "results")

    async def vanish() -> None:
        await eventually(lambda: workshop.client.exists(results))
        await wipe(workshop.client, workshop.keys.prefix)

    stalled = pytest.RaisesExc(VictoriaError, match=r"for 1 s no more\. \[bench\.stalled\]")
    with pytest.RaisesGroup(stalled, flatten_subgroups=True):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(vanish)
            await measure(workshop)
