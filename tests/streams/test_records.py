"""Records: many requests, few calls, and no request suffers from another."""

from typing import Any

import anyio
import pytest
from redis.exceptions import ResponseError

from streams.records import Records
from tests.workshop import Workshop


async def calls(workshop: Workshop) -> int:
    statistics: dict[str, Any] = await workshop.client.info("commandstats")
    return statistics.get("cmdstat_evalsha", {}).get("calls", 0)


async def test_what_is_asked_in_one_moment_travels_in_few_calls(workshop: Workshop) -> None:
    records, key = Records(workshop.client), workshop.keys.journal("run")
    await records.add("0", key, "warm", b"up")
    before, held = await calls(workshop), dict[int, bytes | None]()

    async def add(number: int) -> None:
        held[number] = await records.add("0", key, f"field {number % 50}", b"value %d" % number)

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(add, number)
    assert await calls(workshop) - before <= 2
    assert [held[number] for number in range(50)] == [None] * 50
    assert [held[number] for number in range(50, 100)] == [b"value %d" % number for number in range(50)]


async def test_fields_are_read_together(workshop: Workshop) -> None:
    records, key = Records(workshop.client), workshop.keys.run("0", "run")
    await workshop.client.hset(key, mapping={"a": "1", "b": "2"})
    assert await records.read("0", key, "a", "none", "b") == [b"1", None, b"2"]


async def test_a_key_of_another_kind_is_an_error_for_those_who_ask_for_it_alone(workshop: Workshop) -> None:
    records, good, bad = Records(workshop.client), workshop.keys.journal("good"), workshop.keys.journal("bad")
    await workshop.client.set(bad, "not a hash")
    seen: list[str] = []

    async def refused() -> None:
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await records.add("0", bad, "field", b"value")
        seen.append("refused")

    async def fine() -> None:
        assert await records.add("0", good, "field", b"value") is None
        seen.append("fine")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refused)
        tasks.start_soon(fine)
    assert sorted(seen) == ["fine", "refused"]
    assert await workshop.client.hget(good, "field") == b"value"


async def test_who_stops_waiting_is_recorded_and_leaves_the_others_their_answers(workshop: Workshop) -> None:
    records, key = Records(workshop.client), workshop.keys.journal("run")
    held: list[bytes | None] = []

    async def add() -> None:
        held.append(await records.add("0", key, "field", b"value"))

    async with anyio.create_task_group() as tasks:
        for other in ("one", "two"):
            with anyio.move_on_after(0):
                await records.add("0", key, other, b"value")
        tasks.start_soon(add)
    assert held == [None]
    assert await records.read("0", key, "one", "two") == [b"value", b"value"], "they may be of what has been done"


async def test_after_an_error_the_next_request_is_carried(workshop: Workshop) -> None:
    records, key = Records(workshop.client), workshop.keys.journal("run")
    await workshop.client.connection_pool.disconnect()
    await workshop.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(ResponseError, match="maxmemory"):
            await records.add("0", key, "field", b"value")
    finally:
        await workshop.client.config_set("maxmemory", 0)
    assert await records.add("0", key, "field", b"value") is None
