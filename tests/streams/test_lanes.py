"""How many entries a worker takes in hand."""

from typing import Any, cast

import anyio

from streams.lanes import Lanes
from streams.settlement import Handled
from streams.stage import Policy


async def test_a_slot_that_is_left_when_all_in_hand_has_begun_is_there_for_the_next() -> None:
    async def never_ends(_entry: Any) -> Handled:
        await anyio.sleep_forever()
        raise AssertionError

    ended: list[Handled] = []
    lanes = Lanes(Policy(concurrency=4), never_ends, ended.append)
    for _ in range(3):
        lanes.put(cast("Any", object()))
    room = 0

    async def look() -> None:
        nonlocal room
        room = await lanes.room()  # three have no lane yet, so it waits
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        tasks.start_soon(lanes.run)
        await anyio.sleep(5)
        tasks.cancel_scope.cancel()
    assert (room, ended) == (1, [])
