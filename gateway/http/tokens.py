"""Bearer tokens: who may come in, and to do what. On the server there are only their hashes.

A token has 256 random bits, so a plain hash tells nothing about it; a slow one is for what people think up.
"""

import hmac
from datetime import UTC, datetime
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, Literal

import msgspec

from consumers.agents.token import PREFIX, holder
from schemas.errors import InvalidInput
from schemas.plan import Moment
from streams.connection import Client, reachable
from streams.keys import Keys

Scope = Literal["read", "publish", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "publish", "admin")
"""To look at things; to submit, cancel and answer; and both, with what changes the installation itself."""
MOST = 1_000
"""Tokens that there may be: a door has all of them in memory."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a token. `digest` is the SHA-256 of its text, in hexadecimal digits."""

    name: str
    scopes: tuple[Scope, ...]
    digest: str
    created: Moment
    expires: Moment | None = None

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires is not None and self.expires <= datetime.now(UTC)

    def is_of(self, text: str) -> bool:
        """Whether this was made of it; that takes the same time however much of it is right."""
        return hmac.compare_digest(self.digest.encode(), _digest(text).encode())


def minted(name: str, scopes: tuple[Scope, ...], expires: datetime | None = None) -> tuple[str, Token]:
    """A new token, and what is kept of it. Raises InvalidInput `token.name`."""
    text = f"{PREFIX}{name}_{token_urlsafe(32)}"
    if holder(text) != name:
        raise InvalidInput(
            "token.name",
            f"{name[:80]!r} can't be a token's name.",
            "Take up to 40 small letters, digits and hyphens: backup-1.",
        )
    return text, Token(name=name, scopes=scopes, digest=_digest(text), created=datetime.now(UTC), expires=expires)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


class Tokens:
    """The tokens of one server. All methods raise NotReachable."""

    def __init__(self, client: Client, keys: Keys, url: str) -> None:
        self._client: Any = client
        self._key, self._url = keys.tokens(), url

    async def add(self, token: Token) -> None:
        """Keep a new one. Raises InvalidInput `token.exists`, `token.full`."""
        with reachable(self._url):
            full = await self._client.hlen(self._key) >= MOST
            kept = not full and await self._client.hsetnx(self._key, token.name, msgspec.json.encode(token))
        if full:
            raise InvalidInput("token.full", f"There are {MOST:,} tokens already.", "Revoke those nobody uses.")
        if not kept:
            hint = f"Take another name, or revoke it first: victoria token revoke {token.name}"
            raise InvalidInput("token.exists", f"There is a token {token.name} already.", hint)

    async def revoke(self, name: str) -> None:
        """Forget one. Raises InvalidInput `token.unknown`."""
        with reachable(self._url):
            known = await self._client.hdel(self._key, name)
        if not known:
            raise InvalidInput("token.unknown", f"There is no token {name[:80]!r}.", "`victoria token list` shows all.")

    async def all(self) -> dict[str, Token]:
        """All by name, expired ones too. Whatever is no token lets nobody in, and is left out."""
        with reachable(self._url):
            kept: dict[bytes, bytes] = await self._client.hgetall(self._key)
        found: list[Token] = []
        for value in kept.values():
            try:
                found.append(msgspec.json.decode(value, type=Token))
            except ValueError:
                continue
        return {token.name: token for token in sorted(found, key=lambda token: token.name)}
