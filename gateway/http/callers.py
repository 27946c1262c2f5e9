"""Who calls: everybody on this machine as long as there are no tokens, else who has one that holds.

A door has all tokens in memory, and reads them anew when a request comes and they are older than a second. So one that
is revoked opens nothing a second later, and wrong ones cost the server nothing, however many are tried.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from re import Pattern
from time import monotonic

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from consumers.agents.token import holder
from gateway.http.failure import response
from gateway.http.rates import Rates
from gateway.http.tokens import SCOPES, Token, Tokens
from schemas.errors import InvalidInput, NotReachable, Overloaded, VictoriaError
from streams.recent import Recent

FRESH = 1.0
"""Seconds for which the tokens that were read count: for so long at most one that is revoked still opens."""
NEW_AFTER = 0.1
"""Seconds after which they are read again for a name that is not among them: it may be new, and waits for that."""
FIGURES = "/metrics"
"""A page that also says when the server is away, and nothing that a token revoked meanwhile should not see."""
ANSWER_WITHIN = 2.0
"""Seconds in which the server has to say which tokens there are."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request: its token's name, "" where none is needed, and what it may do."""

    name: str
    scopes: frozenset[str]


ANYBODY = Caller("", frozenset(SCOPES))
NOBODY = Caller("", frozenset())
"""Who asks for a page that is for everybody."""


def caller_of(connection: HTTPConnection) -> Caller:
    """Who sends this request."""
    return connection.scope.get("state", {}).get("caller", NOBODY)


def allowed(scope: str, serve: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """A page for callers with this scope only, "" for everybody: others are told `http.scope`."""

    async def served(request: Request) -> Response:
        caller = caller_of(request)
        if scope and scope not in caller.scopes:
            raise InvalidInput(
                "http.scope",
                f"The token {caller.name} has not the scope {scope}.",
                f"Take another one: victoria token create NAME --scope {scope}",
            )
        return await serve(request)

    return served


class Register:
    """The tokens, as of a moment ago. `lenient` lets everybody in until there is a first one."""

    def __init__(self, tokens: Tokens, *, lenient: bool) -> None:
        self._tokens, self._lenient = tokens, lenient
        self._known: dict[str, Token] = {}
        self._reading = Recent(self._read)

    async def caller(self, authorization: str, *, stale: bool = False) -> Caller:
        """Who sends this header; with `stale` by the tokens of before, while the server does not say which there are.

        Raises InvalidInput `http.token`, NotReachable.
        """
        kind, _, text = authorization.partition(" ")
        text = text.strip()
        name, came = holder(text) if kind.lower() == "bearer" else "", monotonic()
        try:
            await self._reading.within(FRESH)
            if name and name not in self._known and self._reading.at < came:  # it may have been made since
                await asyncio.sleep(self._reading.at + NEW_AFTER - monotonic())
                await self._reading.within(monotonic() - came)
        except NotReachable:
            if not self._lenient and not (stale and self._known):
                raise
        if self._lenient:
            return ANYBODY
        token = self._known.get(name)
        if token is None or token.expired or not token.is_of(text):
            raise InvalidInput(
                "http.token",
                "This needs a token that holds." if authorization else "This needs a token.",
                "Send the header Authorization: Bearer vic_...; `victoria token create NAME` makes one.",
            )
        return Caller(name, frozenset(SCOPES if "admin" in token.scopes else token.scopes))

    async def require(self, host: str) -> None:
        """See that there is a token that holds, before a door opens to others. Raises InvalidInput `http.open`."""
        await self._reading.within(FRESH)
        if all(token.expired for token in self._known.values()):
            raise InvalidInput(
                "http.open",
                f"{host} can be reached from other machines, and there is no token by which to know who may come in.",
                "Make one first: victoria token create NAME. Or stay on this machine: --host 127.0.0.1.",
            )

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                self._known = await self._tokens.all()
        except TimeoutError:
            raise NotReachable(
                "server.unreachable", "The server does not say which tokens there are.", "Try again in a moment."
            ) from None
        if self._known:
            self._lenient = False  # for good: revoking the last one is no invitation


class Callers:
    """Lets in who may come in, as often and with as many requests at once as is allowed.

    `free` are the paths for which nobody is asked anything.
    """

    def __init__(
        self, app: ASGIApp, register: Register, rates: Rates, at_once: int, free: Collection[Pattern[str]] = ()
    ) -> None:
        self._app, self._register, self._rates = app, register, rates
        self._at_once, self._free = at_once, free
        self._under_way = Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its `caller`, or refuse it."""
        if scope["type"] != "http" or any(path.match(scope["path"]) for path in self._free):
            await self._app(scope, receive, send)
            return
        try:
            said = Headers(scope=scope).get("authorization", "")
            caller = await self._register.caller(said, stale=scope["path"] == FIGURES)
            who = caller.name or (scope["client"] or ("",))[0]
            await self._rates.take(who)
            self._admit(who)
        except VictoriaError as problem:
            await response(problem)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        with self._counted(who):
            await self._app(scope, receive, send)

    def _admit(self, who: str) -> None:
        if self._under_way[who] >= self._at_once:
            raise Overloaded(
                "http.at_once", f"{self._at_once:,} requests of yours are under way.", "Wait for some to end.", 1.0
            )

    @contextmanager
    def _counted(self, who: str) -> Generator[None]:
        self._under_way[who] += 1
        try:
            yield
        finally:
            self._under_way[who] -= 1
            if not self._under_way[who]:
                del self._under_way[who]
