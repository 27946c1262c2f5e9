"""How far stages are behind is known of every server, over several partitions; what it lost count of is unknown."""

import random
from typing import Any, cast

import pytest
from msgspec.json import encode

from schemas.errors import ErrorInfo
from schemas.events import GoalSubmitted
from streams.append import Publisher
from streams.connection import Client
from streams.groups import FOLLOWER, create_groups
from streams.keys import Keys
from streams.lag import Count, InLine, Lag, Measure, exactly, lags, lines, measures, total, undelivered
from streams.outcome import DeadLetter
from streams.ranges import EntryId
from streams.scripts import Scripts
from tests.workshop import Workshop, intake_stage, wipe


async def never(_event: GoalSubmitted, _ctx: object) -> list[GoalSubmitted]:
    raise AssertionError("nobody works here")


async def test_lag_counts_all_partitions_and_a_goal_knows_how_many_come_first(
    client: Client, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = Workshop(client, Keys(prefix, partitions=3))
    keys, publisher = workshop.keys, Publisher(client, workshop.keys)
    topology = workshop.topology(intake_stage(never, emits=()))
    assert await lags(client, keys, topology) == {"understand": Lag(0, 0, 0)}, "before there is any stream"
    runs = [f"run-{number}" for number in range(30)]
    await publisher.publish([(run, GoalSubmitted(goal=f'"run":"{runs[-1]}"')) for run in runs], "intake")
    assert (await lags(client, keys, topology))["understand"] == Lag(30, 0, 0), "before there is any group"
    await create_groups(client, keys, topology)
    assert (await lags(client, keys, topology))["understand"] == Lag(30, 0, 0)

    for partition in keys.of_stream("intake"):
        own = [run for run in runs if keys.of_run(run) == partition]
        stream = keys.stream(partition, "intake")
        assert [(await in_line(client, stream)).place(run) for run in own] == list(range(len(own)))
        await workshop.client.xreadgroup("understand", "somebody", {stream: ">"}, count=2)
        line = await in_line(client, stream)
        assert [line.place(run) for run in own] == [None, None, *range(len(own) - 2)]
        assert (line.entries, line.all, line.place("no-such-run")) == (len(own) - 2, True, None)
    assert (await lags(client, keys, topology))["understand"] == Lag(24, 6, 0)

    stream = keys.stream("0", "intake")
    last = (await workshop.client.xrevrange(stream, count=2))[1][0]
    await workshop.client.xdel(stream, last)
    assert (await lags(client, keys, topology))["understand"] == Lag(23, 6, 0), "counted"
    monkeypatch.setattr("streams.lag.COUNTED", 1)
    assert (await lags(client, keys, topology))["understand"].undelivered is None, "the server lost count"


async def in_line(client: Client, stream: str) -> InLine:
    """Who waits for the stage `understand`."""
    return (await lines(client, {"understand": stream}))["understand"]


async def test_a_line_is_known_up_to_a_thousand_entries_or_a_megabyte_and_no_entry_hides_those_behind_it(
    client: Client, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Keys(prefix).stream("0", "intake")
    assert await in_line(client, stream) == InLine({}, 0, True), "before there is a stream"
    for entry in ({"type": "Nobody", "event": "no JSON"}, *[{"event": f'{{"run":"{n % 3}"}}'} for n in range(250)]):
        await cast("Any", client).xadd(stream, entry)
    assert await in_line(client, stream) == InLine({b"": 0, b"0": 1, b"1": 2, b"2": 3}, 251, True)
    for most, entries, complete in ((251, 251, True), (250, 250, False), (2, 2, False)):
        monkeypatch.setattr("streams.lag.LOOKED_THROUGH", most)
        found = await in_line(client, stream)
        assert (found.entries, found.all) == (entries, complete)
    monkeypatch.setattr("streams.lag.LOOKED_BYTES", 30)
    assert await in_line(client, stream) == InLine({b"": 0, b"0": 1}, 2, False)


async def test_who_follows_all_streams_is_behind_like_any_stage(client: Client, prefix: str) -> None:
    workshop = Workshop(client, Keys(prefix, partitions=2))
    keys, publisher = workshop.keys, Publisher(client, workshop.keys)
    topology = workshop.topology(intake_stage(never, emits=()))
    await publisher.publish([(f"run-{number}", GoalSubmitted(goal="x")) for number in range(5)], "intake")
    assert FOLLOWER not in await lags(client, keys, topology), "nobody ever did"
    await create_groups(client, keys, topology, follower=FOLLOWER)
    assert (await lags(client, keys, topology))[FOLLOWER] == Lag(5, 0, 0)


GROUP = "understand"
HAPPENS = [*5 * ["add"], *3 * ["read"], *2 * ["delete"], "trim to length", "trim to id", "acknowledge", "move", "reset"]


async def counted_one_by_one(client: Any, stream: str) -> int:
    """The truth."""
    place = EntryId(0, 0)
    for group in await client.xinfo_groups(stream) if await client.exists(stream) else ():
        place = EntryId.of(group["last-delivered-id"])
    return sum(EntryId.of(entry_id) > place for entry_id, _ in await client.xrange(stream))


async def happen(client: Any, stream: str, what: str, rolls: random.Random) -> None:
    """Something that changes how far the group is behind, or what the server knows of it."""
    ids: list[bytes] = [entry_id for entry_id, _ in await client.xrange(stream)]
    match what:
        case "add":
            for _ in range(rolls.randint(1, 6)):
                await client.xadd(stream, {"type": "Test", "event": "{}"})
        case "read":
            await client.xreadgroup(GROUP, "somebody", {stream: ">"}, count=rolls.randint(1, 5))
        case "delete" if ids:
            await client.xdel(stream, *rolls.sample(ids, min(len(ids), rolls.randint(1, 2))))
        case "trim to length":
            await client.xtrim(stream, maxlen=rolls.randint(0, len(ids) + 1), approximate=False)
        case "trim to id" if ids:
            await client.xtrim(stream, minid=rolls.choice(ids), approximate=False)
        case "acknowledge" if ids:
            await client.xack(stream, GROUP, *rolls.sample(ids, 1))
        case "move" if ids:
            await client.xgroup_setid(stream, GROUP, rolls.choice([*ids, "0"]))
        case "reset":
            await client.xgroup_destroy(stream, GROUP)
            await client.xgroup_create(stream, GROUP, id=rolls.choice("0$"))
        case _:
            pass


@pytest.mark.parametrize("looked_through", [2, 1_000])
async def test_whatever_happens_to_a_stream_its_lag_is_the_truth_or_unknown_with_the_truth_between_its_bounds(
    client: Client, prefix: str, looked_through: int
) -> None:
    keys, scripts, own = Keys(prefix), Scripts(client), Workshop(client, Keys(prefix)).client
    unknown = 0
    for seed in range(12):
        rolls, stream = random.Random(seed), keys.stream("0", f"stream-{seed}")
        await own.xgroup_create(stream, GROUP, id="0", mkstream=True)
        for what in (rolls.choice(HAPPENS) for _ in range(25)):
            await happen(own, stream, what, rolls)
            found = await scripts.lag(
                [stream, keys.delayed("0", "x"), keys.leases("0", "x")], GROUP, looked_through, 9999
            )
            count, truth = undelivered(found), await counted_one_by_one(own, stream)
            assert count.known in (None, truth), (seed, what, found)
            assert count.least <= truth <= count.most
            unknown += count.known is None
    assert (unknown > 0) == (looked_through == 2)


async def test_all_that_keeps_a_stage_from_being_done_is_measured(client: Client, prefix: str) -> None:
    workshop = Workshop(client, Keys(prefix, partitions=2))
    keys, own, topology = workshop.keys, workshop.client, workshop.topology(intake_stage(never, emits=()))
    stream, leases = keys.stream("1", "intake"), keys.leases("1", "understand")

    async def measured() -> list[Measure]:
        return [each for each in await measures(client, keys, topology) if each.stage == "understand"]

    untouched, _ = empty = await measured()
    assert (untouched.undelivered, untouched.oldest, untouched.consumers) == (exactly(0), None, 0)
    seconds, micros = await own.time()
    now = seconds * 1000 + micros // 1000
    for age in (9_000, 8_000, 7_000, 6_000):
        await own.xadd(stream, {"type": "Test", "event": "{}"}, id=f"{now - age}-0")
    (_, before_any_group) = await measured()
    assert before_any_group.undelivered == exactly(4)
    await create_groups(client, keys, topology)
    await Scripts(client).lease(leases, "alive", 60)
    await own.xreadgroup("understand", "dead", {stream: ">"}, count=2)
    await own.xreadgroup("understand", "alive", {stream: ">"}, count=1)
    await own.xack(stream, "understand", f"{now - 9_000}-0")
    await own.zadd(keys.delayed("1", "intake"), {"1-0 []": now - 30_000, "2-0 []": now + 90_000})
    for stage in ("understand", "understand", "elsewhere"):
        letter = DeadLetter(stage, "intake", "1-0", ErrorInfo("x", "why"))
        await own.xadd(keys.dead("1"), {"type": "DeadLetter", "event": encode(letter)})

    _, busy = found = await measured()
    assert (busy.undelivered, busy.pending, busy.abandoned, busy.delayed) == (exactly(1), 2, 1, 2)
    assert (busy.consumers, busy.dead, busy.added) == (1, exactly(2), 4)
    assert busy.oldest is not None
    assert 30 <= busy.oldest < 90, "one was due half a minute ago"
    await own.delete(keys.delayed("1", "intake"))
    _, waiting = await measured()
    assert waiting.oldest is not None
    assert 8 <= waiting.oldest < 30, "the first of those that nobody finished"
    assert await counted_one_by_one(own, stream) == 1
    both = total(found)
    assert (both.undelivered, both.pending, both.delayed, both.consumers) == (exactly(1), 2, 2, 0)
    await wipe(client, prefix)
    assert [each.undelivered for each in await measured()] == [each.undelivered for each in empty]
    assert (await lags(client, keys, topology))["understand"] == Lag(0, 0, 0), "wiped"


async def test_more_dead_letters_than_are_looked_at_are_unknown_within_bounds(
    client: Client, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.lag.LOOKED_THROUGH", 3)
    workshop = Workshop(client, Keys(prefix))
    for stage in ("understand", "understand", "elsewhere", "elsewhere", "understand"):
        letter = DeadLetter(stage, "intake", "1-0", ErrorInfo("x", "why"))
        await workshop.client.xadd(workshop.keys.dead("0"), {"type": "DeadLetter", "event": encode(letter)})
    found = await measures(client, workshop.keys, workshop.topology(intake_stage(never, emits=())))
    assert found[0].dead == Count(None, 1, 3)
