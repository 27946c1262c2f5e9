"""Works of other agents go on only while somebody waits for them."""

import msgspec
import pytest

from consumers.agents import waited
from consumers.agents.waited import Sign, Waited
from schemas.events import CancelRequested
from streams.connection import Client
from streams.keys import Keys
from tests.workshop import Workshop, eventually


@pytest.fixture
def workshop(client: Client, prefix: str) -> Workshop:
    return Workshop(client, Keys(prefix))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waited, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(waited, "SIGN_EVERY", 0.05)


def made(workshop: Workshop) -> Waited:
    return Waited(workshop.client, workshop.keys, workshop.publisher, "aggregate")


async def signs(workshop: Workshop) -> set[str]:
    return {run.decode() for run in await workshop.client.hkeys(workshop.keys.waited("0"))}


async def cancelled(workshop: Workshop) -> list[str]:
    said = [entry.envelope for entry in await workshop.entries("aggregate") if entry.envelope]
    return [each.run for each in said if isinstance(each.body, CancelRequested)]


async def test_a_run_goes_on_while_somebody_waits_and_is_cancelled_once_after(workshop: Workshop) -> None:
    (run,) = await workshop.publish("x")
    door = made(workshop)
    async with workshop.working(companions=[made(workshop).watch]):
        async with door.waiting(run):
            await door.sign(run, 0.0)  # as if the last sign had been long ago, but the next one comes
            before = await workshop.client.hget(workshop.keys.waited("0"), run)

            async def signed() -> bool:
                return await workshop.client.hget(workshop.keys.waited("0"), run) not in (None, before)

            await eventually(signed)
        await door.sign(run, 0.05)
        await eventually(lambda: _gone(workshop))
    assert await cancelled(workshop) == [run]


async def _gone(workshop: Workshop) -> bool:
    return not await signs(workshop)


async def test_a_sign_of_a_killed_door_does_not_count_any_more(workshop: Workshop) -> None:
    (run,) = await workshop.publish("x")
    await made(workshop).sign(run)
    gone = msgspec.json.decode(await workshop.client.hget(workshop.keys.waited("0"), run), type=Sign)
    host = gone.door.rpartition("-")[0].rpartition("-")[0]
    sign = msgspec.json.encode(Sign(gone.until, f"{host}-4194999-abcdef"))
    await workshop.client.hset(workshop.keys.waited("0"), run, sign)
    async with workshop.working(companions=[made(workshop).watch]):
        assert await cancelled(workshop) == [run], "before anything is read"


async def test_what_has_ended_or_never_was_or_is_no_sign_is_forgotten(workshop: Workshop) -> None:
    runs = await workshop.publish("x", "y")
    await workshop.client.expire(workshop.keys.run("0", runs[0]), 100)
    for run in (runs[0], "never"):
        await made(workshop).sign(run, 0.0)
    await workshop.client.hset(workshop.keys.waited("0"), b"\xff", b"\xff")
    async with workshop.working(companions=[made(workshop).watch]):
        await eventually(lambda: _gone(workshop))
    assert await cancelled(workshop) == []
    assert not await workshop.client.exists(workshop.keys.run("0", "never"))
