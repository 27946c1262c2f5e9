"""What many ask for at once is looked up once, and who goes away or meets trouble takes nobody along."""

import asyncio

import anyio

from streams.recent import Recent


class Looks:
    """Counts looks; each waits for `go`."""

    def __init__(self) -> None:
        self.go, self.made, self.problem = anyio.Event(), 0, ""

    async def look(self) -> int:
        self.made += 1
        number = self.made
        await self.go.wait()
        if self.problem:
            raise OSError(self.problem)
        return number


async def test_one_looks_for_all_who_ask_and_goes_on_when_the_first_goes_away() -> None:
    looks = Looks()
    recent = Recent(looks.look)
    asking = [asyncio.create_task(recent.within(60)) for _ in range(3)]
    await asyncio.sleep(0)
    asking[0].cancel()
    looks.go.set()
    assert await asyncio.gather(*asking[1:]) == [1, 1]
    assert await recent.within(60) == 1
    assert await recent.within(0) == 2


async def test_a_look_that_began_too_early_is_followed_by_one_more() -> None:
    looks = Looks()
    recent = Recent(looks.look)
    early = asyncio.create_task(recent.within(60))
    await asyncio.sleep(0.02)
    late = [asyncio.create_task(recent.within(0.01)) for _ in range(3)]
    await asyncio.sleep(0)
    looks.go.set()
    assert await early == 1
    assert await asyncio.gather(*late) == [2, 2, 2]


async def test_who_asks_when_a_look_that_began_too_early_has_just_ended_gets_another_one() -> None:
    looks = Looks()
    recent = Recent(looks.look)

    async def late() -> int:
        await looks.go.wait()
        return await recent.within(0)

    early = asyncio.create_task(recent.within(60))
    await anyio.wait_all_tasks_blocked()
    coming = asyncio.create_task(late())
    await anyio.wait_all_tasks_blocked()
    looks.go.set()
    assert await asyncio.gather(early, coming) == [1, 2]


async def test_trouble_is_told_to_all_who_wait_and_is_not_remembered() -> None:
    looks = Looks()
    recent, looks.problem = Recent(looks.look), "away"
    asking = [asyncio.create_task(recent.within(60)) for _ in range(3)]
    await asyncio.sleep(0)
    looks.go.set()
    assert [str(told) for told in await asyncio.gather(*asking, return_exceptions=True)] == ["away"] * 3
    looks.problem = ""
    assert await recent.within(60) == 2
