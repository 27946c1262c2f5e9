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
    rest = [gathered.ask(each) for each in "bb" + "d" * 100]
    await begun()
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


async def leave(gathered: Gathered[str, str], calls: Calls) -> None:
    """Ask, one after the other for a call that takes two, and go away; then ask once more."""
    leaving = [gathered.ask(each) for each in "abc"]
    await begun()
    for each in leaving:
        each.cancel()
    later = gathered.ask("d")
    await begun()
    calls.go.set()
    assert await later == "D"
    calls.go = anyio.Event()
    leaving = [gathered.ask("e")]
    await begun()
    leaving[0].cancel()
    await begun()
    calls.go.set()
    await begun()
    assert await gathered.ask("f") == "F"


async def test_what_was_asked_for_is_carried_out_though_who_asked_goes_away() -> None:
    calls = Calls()
    await leave(Gathered(calls.carry, 2), calls)
    assert (calls.made, calls.ended) == (["ab", "cd", "e", "f"], 4)


async def test_what_is_given_up_is_not_begun_and_a_call_for_which_nobody_waits_is_cancelled() -> None:
    calls = Calls()
    await leave(Gathered(calls.carry, 2, give_up=True), calls)
    assert calls.made == ["ab", "d", "e", "f"]
    assert calls.ended == 3, "while somebody waits for the next call, the one under way goes on"


async def test_who_gives_a_wrong_number_of_results_leaves_nobody_waiting() -> None:
    async def carry(requests: Sequence[str]) -> Sequence[str]:
        return requests[1:]

    gathered = Gathered(carry, 2)
    ends = await asyncio.gather(*map(gathered.ask, "abc"), return_exceptions=True)
    assert [type(each) for each in ends] == [ValueError] * 3
