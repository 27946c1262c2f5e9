"""Where runs stand, asked for by many at once, on every server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from consumers.intake import goal_submitted
from deploy.loading import load
from deploy.victoria import Victoria
from deploy.wiring import opened
from gateway import standing
from gateway.standing import Standings, Waits
from schemas.errors import InvalidInput
from streams.append import ENTERED
from streams.groups import create_groups
from streams.scripts import Scripts


@pytest.fixture
async def victoria(redis_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Victoria]:
    """A Victoria of three partitions that nobody works for."""
    given = {"redis_url": redis_url, "prefix": prefix, "model": "none", "partitions": "3"}
    async with opened(load(given, environ={}, folder=tmp_path), redis_url) as victoria:
        await create_groups(victoria.client, victoria.keys, victoria.topology)
        yield victoria


async def submit(victoria: Victoria, *runs: str) -> None:
    await victoria.submit([(run, goal_submitted("What is a stream?")) for run in runs])


async def calls(victoria: Victoria) -> int:
    """Commands that clients have sent to the servers."""
    asked: Any = victoria.client
    infos = [await server.info("stats") for server in await asked.masters()]
    return sum(info["total_commands_processed"] for info in infos)


async def test_each_run_has_its_place_and_a_hundred_looks_cost_little_more_than_one(victoria: Victoria) -> None:
    runs = [f"run-{number}" for number in range(100)]
    await submit(victoria, *runs)
    standings = Standings(victoria)
    found = await asyncio.gather(*(standings.of(run) for run in runs))
    assert {each.status for each in found} == {"queued"}
    assert all(each.waits_for.startswith("no worker for understand, plan") for each in found)
    for partition in victoria.keys.of_stream("intake"):
        own = [run for run in runs if victoria.keys.of_run(run) == partition]
        assert [found[runs.index(run)].waiting for run in own] == [Waits("understand", n) for n in range(len(own))]
    asked = await calls(victoria)
    for _ in range(2):
        await asyncio.gather(*(standings.of(run) for run in runs))
    each = await calls(victoria) - asked
    assert each < 2 * 2 * len(runs) + 200, "two reads for each run, and for all together who works and who is in line"


async def test_a_run_that_came_after_a_look_is_in_line_at_once(victoria: Victoria, monkeypatch: Any) -> None:
    monkeypatch.setattr(standing, "FRESH", 3_600.0)
    standings = Standings(victoria)
    for number in range(5):
        await submit(victoria, f"run-{number}")
        found = await standings.of(f"run-{number}")
        assert (found.status, found.waiting and found.waiting.stage) == ("queued", "understand")


async def test_a_run_that_was_given_to_somebody_runs_at_every_door_whatever_the_others_wait_for(
    victoria: Victoria, monkeypatch: Any
) -> None:
    monkeypatch.setattr(standing, "FRESH", 3_600.0)
    monkeypatch.setattr("streams.lag.LOOKED_THROUGH", 3)
    runs = [run for run in (f"run-{number}" for number in range(40)) if victoria.keys.of_run(run) == "0"]
    await submit(victoria, *runs)
    doors = [Standings(victoria), Standings(victoria)]
    found = await doors[0].of(runs[0])
    assert (found.status, found.waiting) == ("queued", Waits("understand", 0))
    client: Any = victoria.client
    intake = victoria.keys.stream("0", "intake")
    await client.xreadgroup("understand", "somebody", {intake: ">"}, count=1)
    for door in doors:
        found = await door.of(runs[0])
        assert found.status == "running"
        assert found.waits_for == "no worker for understand: start them with `victoria up`"
        assert (await door.of(runs[1])).status == "queued"


async def test_a_run_without_the_id_of_its_entry_is_queued_while_it_stands_in_line(
    victoria: Victoria, monkeypatch: Any
) -> None:
    monkeypatch.setattr(standing, "FRESH", 0.0)
    await submit(victoria, "run")
    client: Any = victoria.client
    partition = victoria.keys.of_run("run")
    await client.hdel(victoria.keys.run(partition, "run"), ENTERED)
    found = await Standings(victoria).of("run")
    assert (found.status, found.waiting) == ("queued", Waits("understand", 0))
    await client.xreadgroup("understand", "somebody", {victoria.keys.stream(partition, "intake"): ">"})
    assert (await Standings(victoria).of("run")).status == "running"


async def test_a_run_that_is_put_back_stands_in_line_again_and_runs_on(victoria: Victoria) -> None:
    await submit(victoria, "run")
    client: Any = victoria.client
    intake = victoria.keys.stream(victoria.keys.of_run("run"), "intake")
    ((_, ((_, fields),)),) = await client.xreadgroup("understand", "somebody", {intake: ">"})
    await client.xadd(intake, dict(zip(fields[::2], fields[1::2], strict=True)))
    found = await Standings(victoria).of("run")
    assert (found.status, found.waiting) == ("running", Waits("understand", 0))


async def test_a_run_in_the_hands_of_a_live_stage_waits_for_nobody(victoria: Victoria) -> None:
    await submit(victoria, "run")
    client: Any = victoria.client
    partition = victoria.keys.of_run("run")
    await client.xreadgroup("understand", "somebody", {victoria.keys.stream(partition, "intake"): ">"})
    for stage in ("understand", "plan", "aggregate"):  # and others are missing
        for each in victoria.keys.of_stream(stage):
            await Scripts(victoria.client).lease(victoria.keys.leases(each, stage), "somebody", 60)
    found = await Standings(victoria).of("run")
    assert (found.status, found.waiting, found.waits_for) == ("running", None, "")


async def test_beyond_what_is_looked_at_a_run_is_behind_so_many(victoria: Victoria, monkeypatch: Any) -> None:
    monkeypatch.setattr("streams.lag.LOOKED_THROUGH", 3)
    runs = [run for run in (f"run-{number}" for number in range(40)) if victoria.keys.of_run(run) == "0"]
    await submit(victoria, *runs)
    standings = Standings(victoria)
    places = [(await standings.of(run)).waiting for run in runs]
    assert places == [Waits("understand", min(number, 3)) for number in range(len(runs))]


async def test_a_key_that_is_something_else_hurts_only_its_own_run(victoria: Victoria) -> None:
    await submit(victoria, "good", "bad", "odd")
    client: Any = victoria.client
    await client.delete(key := victoria.keys.run(victoria.keys.of_run("bad"), "bad"))
    await client.set(key, "no hash")
    await client.hset(victoria.keys.run(victoria.keys.of_run("odd"), "odd"), ENTERED, "garbage")
    asked = map(Standings(victoria).of, ("good", "bad", "odd", "nobody"))
    good, bad, odd, unknown = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(good, standing.Standing)
    assert isinstance(odd, ValueError)
    assert "WRONGTYPE" in str(bad)
    assert isinstance(unknown, InvalidInput)
    assert unknown.code == "run.unknown"


async def test_a_run_is_shown_though_another_part_of_the_servers_is_away(victoria: Victoria, monkeypatch: Any) -> None:
    async def away(_victoria: Victoria) -> list[str]:
        raise ConnectionRefusedError("another server is away")

    monkeypatch.setattr(standing, "missing_stages", away)
    await submit(victoria, "run")
    found = await Standings(victoria).of("run")
    assert (found.status, found.waiting, found.waits_for) == ("queued", Waits("understand", 0), "")
