"""What many ask for while a call is under way goes with the next one, and nobody suffers from another."""

import asyncio
from collections.abc import Sequence

import anyio
import pytest

from streams.gathered import Gathered

AT_ONCE = 100


class Calls:
    """Remembers what was asked for together; each call waits for `go`."""

    def __init__(self) -> None:
        self.go, self.made, self.ended = anyio.Event(), list[str](), 0

    async def carry(self, requests: Sequence[str]) -> list[str | Exception]:
        self.made.append("".join(requests))
        await self.go.wait()
        self.ended += 1
        if "!" in requests:
            raise OSError("away")
        return [OSError("this one") if request == "?" else request.upper() for request in requests]


async def begun() -> None:
    """Let whatever can begin do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_is_asked_for_meanwhile_goes_with_the_next_call() -> None:
    calls = Calls()
    gathered = Gathered(calls.carry, 100)
    first = gathered.ask("a")
    await begun()
    rest = [gathered.ask(each) for each in "bcb" + "d" * 100]
    await begun()
    rest.pop(1).cancel()
    calls.go.set()
    assert await asyncio.gather(first, *rest) == [*"ABB", *"D" * 100]
    assert calls.made == ["a", "bb" + "d" * 98, "dd"]
    assert await gathered.ask("e") == "E"


async def test_a_call_takes_no_more_than_its_size() -> None:
    calls = Calls()
    calls.go.set()
    gathered = Gathered(calls.carry, 100, len, 4)
    assert await asyncio.gather(*map(gathered.ask, ("aaaaaa", "bb", "cc", "d"))) == ["AAAAAA", "BB", "CC", "D"]
    assert calls.made == ["aaaaaa", "bbcc", "d"]


async def test_trouble_is_told_to_those_it_concerns_only() -> None:
    calls = Calls()
    gathered = Gathered(calls.carry, 100)
    first = gathered.ask("!")
    await begun()
    rest = [gathered.ask(each) for each in "a?b"]
    calls.go.set()
    with pytest.raises(OSError, match="away"):
        await first
    ends = await asyncio.gather(*rest, return_exceptions=True)
    assert [str(each) for each in ends] == ["A", "this one", "B"]


@pytest.mark.parametrize("give_up", [False, True])
async def test_a_call_for_which_nobody_waits_goes_on_unless_it_is_to_be_given_up(give_up: bool) -> None:
    calls = Calls()
    gathered = Gathered(calls.carry, 2, give_up=give_up)
    leaving = [gathered.ask(each) for each in "abc"]
    await begun()
    for each in leaving[:2]:
        each.cancel()
    await begun()
    later = gathered.ask("d")
    leaving[2].cancel()
    await begun()
    calls.go.set()
    assert await later == "D"
    assert calls.made == ["ab", "d"]
    assert calls.ended == 2, "somebody waited for the next one"

    calls.go = anyio.Event()
    gone = gathered.ask("e")
    await begun()
    gone.cancel()
    await begun()
    calls.go.set()
    await begun()
    assert calls.ended == (2 if give_up else 3)
    assert await gathered.ask("f") == "F"
