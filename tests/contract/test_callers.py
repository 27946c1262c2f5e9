"""Tokens and rates on every server."""

import asyncio
from secrets import token_urlsafe
from time import monotonic
from typing import Any

import anyio
import pytest

from consumers.agents.token import PREFIX
from gateway.http import callers, rates
from gateway.http.callers import ANYBODY, Register
from gateway.http.rates import Rates
from gateway.http.tokens import SCOPES, Tokens, minted
from schemas.errors import InvalidInput, NotReachable, Overloaded
from streams.connection import Client, connect
from streams.keys import Keys

NOWHERE = "redis://127.0.0.1:1"


@pytest.fixture
def tokens(client: Client, prefix: str) -> Tokens:
    return Tokens(client, Keys(prefix), "the server")


async def keys(client: Any, prefix: str) -> list[bytes]:
    """All keys of a prefix."""
    return [key for server in await client.masters() async for key in server.scan_iter(f"*{prefix}*")]


async def reads(client: Client) -> int:
    """How often the servers were asked for all of a hash."""
    infos: list[Any] = [await server.info("commandstats") for server in await client.masters()]
    return sum(info.get("cmdstat_hgetall", {}).get("calls", 0) for info in infos)


async def test_a_token_lets_in_who_has_it_and_is_kept_as_a_hash(tokens: Tokens, client: Any, prefix: str) -> None:
    text, token = minted("ci", ("read",))
    chief, other = minted("chief", ("admin",))
    for each in (token, other):
        await tokens.add(each)
    register = Register(tokens, lenient=False)
    assert (await register.caller(f"Bearer {text}")).scopes == {"read"}
    assert (await register.caller(f"Bearer {chief}")).scopes == set(SCOPES)
    for wrong in ("", text, f"Bearer {minted('ci', ('read',))[0]}", f"Bearer {text.replace('ci', 'chief')}"):
        with pytest.raises(InvalidInput) as refused:
            await register.caller(wrong)
        assert refused.value.code == "http.token"
    kept = b"".join((await client.hgetall(Keys(prefix).tokens())).values())
    assert text.removeprefix(f"{PREFIX}ci_").encode() not in kept


async def test_a_new_one_is_known_at_once_and_a_revoked_one_for_a_moment(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "FRESH", 0.2)
    register = Register(tokens, lenient=True)
    assert await register.caller("") == ANYBODY
    text, token = minted("ci", ("read",))
    await tokens.add(token)
    assert (await register.caller(f"Bearer {text}")).name == "ci"
    await tokens.revoke("ci")
    await anyio.sleep(0.21)
    with pytest.raises(InvalidInput):
        await register.caller(f"Bearer {text}")


async def test_ten_thousand_wrong_tokens_cost_the_server_next_to_nothing(tokens: Tokens, client: Client) -> None:
    await tokens.add(minted("ci", ("read",))[1])
    register = Register(tokens, lenient=False)
    before, began = await reads(client), monotonic()

    async def refused(number: int) -> None:
        with pytest.raises(InvalidInput):
            await register.caller(f"Bearer vic_{('ci', f'x{number}')[number % 2]}_{token_urlsafe(32)}")

    for first in range(0, 10_000, 1_000):
        await asyncio.gather(*(refused(first + number) for number in range(1_000)))
    assert await reads(client) - before <= 2 + (monotonic() - began) * 10


async def test_the_digest_is_compared_in_the_same_time_whatever_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    text, token = minted("ci", ("read",))
    assert token.is_of(text)
    assert compared == [token.digest.encode()]


async def test_two_doors_count_together_and_a_window_ends(client: Any, prefix: str) -> None:
    doors = [Rates(client, Keys(prefix), "6/hour") for _ in range(2)]
    for door in doors * 3:
        await door.take("ci")
    for door in doors * 2:
        with pytest.raises(Overloaded) as refused:
            await door.take("ci")
        assert (refused.value.code, 3_500 < refused.value.retry_after <= 3_600) == ("http.rate", True)
    await doors[0].take("somebody else")
    (count,) = [key for key in await keys(client, prefix) if b"/ci/" in key]
    assert 3_500 < await client.ttl(count) <= 3_600, "no count stays"
    await client.delete(count)
    await Rates(client, Keys(prefix), "6/hour").take("ci")


async def test_while_the_server_is_away_nobody_is_refused_for_a_rate_and_no_token_taken(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(NOWHERE)
    await Rates(client, Keys(prefix), "1/minute").take("ci")
    tokens = Tokens(client, Keys(prefix), NOWHERE)
    with pytest.raises(NotReachable):
        await Register(tokens, lenient=False).caller("Bearer vic_ci_" + "x" * 43)
    with pytest.raises(NotReachable):
        await Register(tokens, lenient=False).require("0.0.0.0")
    assert await Register(tokens, lenient=True).caller("") == ANYBODY
    monkeypatch.setattr(rates, "ANSWER_WITHIN", 0.0)
    await Rates(client, Keys(prefix), "1/minute").take("ci")
    await client.aclose()
