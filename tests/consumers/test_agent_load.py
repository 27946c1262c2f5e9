"""How busy agents are is known to all processes, and never for ever."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from consumers.agents import load as agent_load
from consumers.agents.load import AgentLoad
from schemas.errors import AgentFailed
from streams.connection import connect
from tests.workshop import Workshop, eventually


def load(workshop: Workshop, *agents: str, at_once: int = 4) -> AgentLoad:
    return AgentLoad(workshop.client, workshop.keys, agents or ("veronica",), at_once)


def is_(of: AgentLoad, expected: float) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return await of.loads() == {"veronica": expected}

    return holds


async def test_a_load_is_the_share_of_what_an_agent_does_at_once(workshop: Workshop) -> None:
    one, other = load(workshop, "qa", "veronica"), load(workshop, "qa", "veronica")
    async with one.open("veronica", "a", 60), one.open("veronica", "b", 60), one.open("qa", "c", 60):
        assert await other.loads() == {"qa": 0.25, "veronica": 0.5}
    assert await other.loads() == {"qa": 0.0, "veronica": 0.0}


async def test_more_than_an_agent_does_at_once_is_no_more_than_full(workshop: Workshop) -> None:
    busy = load(workshop, at_once=1)
    async with busy.open("veronica", "a", 60), busy.open("veronica", "b", 60):
        assert await is_(busy, 1.0)()


async def test_the_same_work_counts_once(workshop: Workshop) -> None:
    busy = load(workshop)
    async with busy.open("veronica", "a", 60), busy.open("veronica", "a", 60):
        assert await is_(busy, 0.25)()


async def test_a_work_of_a_process_that_died_counts_no_longer_than_it_could_last(workshop: Workshop) -> None:
    busy = load(workshop)
    held = busy.open("veronica", "a", 1.0)
    await held.__aenter__()  # and never out
    assert await is_(busy, 0.25)()
    await eventually(is_(busy, 0.0))


@pytest.mark.parametrize("code", ["delegation.unreachable", "delegation.lost", "delegation.http"])
async def test_an_agent_that_failed_counts_as_full_for_a_while(
    workshop: Workshop, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_load, "SHUN", 0.3)
    busy = load(workshop)
    with pytest.raises(AgentFailed):
        async with busy.open("veronica", "a", 60):
            raise AgentFailed(code, "No.")
    assert await is_(busy, 1.0)()
    await eventually(is_(busy, 0.0))


async def test_an_agent_that_works_again_is_no_longer_full(workshop: Workshop) -> None:
    busy = load(workshop)
    with pytest.raises(AgentFailed):
        async with busy.open("veronica", "a", 60):
            raise AgentFailed("delegation.http", "No.")
    async with busy.open("veronica", "b", 60):
        pass
    assert await is_(busy, 0.0)()


async def test_a_work_that_failed_or_took_too_long_says_nothing_of_the_agent(workshop: Workshop) -> None:
    busy = load(workshop)
    for code in ("delegation.failed", "delegation.timeout", "delegation.garbage"):
        with pytest.raises(AgentFailed):
            async with busy.open("veronica", "a", 60):
                raise AgentFailed(code, "No.")
    assert await is_(busy, 0.0)()


async def test_a_cancelled_work_counts_no_more(workshop: Workshop) -> None:
    busy = load(workshop)

    async def work() -> None:
        async with busy.open("veronica", "a", 60):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await eventually(is_(busy, 0.25))
        tasks.cancel_scope.cancel()
    assert await is_(busy, 0.0)()


async def test_without_the_server_the_work_is_done_all_the_same(workshop: Workshop) -> None:
    away = connect("redis://127.0.0.1:1")
    async with AgentLoad(away, workshop.keys, ["veronica"], 4).open("veronica", "a", 60):
        done = True
    assert done
    await away.aclose()


async def test_without_agents_nothing_is_asked(workshop: Workshop) -> None:
    away = connect("redis://127.0.0.1:1")
    assert await AgentLoad(away, workshop.keys, [], 4).loads() == {}
    await away.aclose()
