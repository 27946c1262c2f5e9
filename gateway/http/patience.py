"""HTTP as uvicorn speaks it. That waits for ever for the rest of a request's head, and bounds its size only where it
comes in pieces: here it has to come in time, and to be short."""

import asyncio

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.http.failure import response
from schemas.errors import InvalidInput

HEAD_BYTES = 64 * 1024
HEAD_WITHIN = 10.0
"""Seconds in which a request's head must arrive, however slowly; for its body see gateway.http.bodies."""


class Patience(H11Protocol):
    """A connection that is closed when a head takes too long, so that nobody holds many by sending nothing."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take what came, and see whether a head is still to come."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cease to wait."""
        self._cease()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._cease()
        elif self._late is None:  # the first byte counts: drops don't buy time
            self._late = self.loop.call_later(HEAD_WITHIN, self.transport.close)

    def _cease(self) -> None:
        if self._late:
            self._late.cancel()
            self._late = None


class ShortHeads:
    """Refuses requests whose headers are longer than HEAD_BYTES, with 431."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        size = sum(len(name) + len(value) + 4 for name, value in scope.get("headers", ()))
        if size + len(scope.get("raw_path", b"")) + len(scope.get("query_string", b"")) > HEAD_BYTES:
            problem = InvalidInput("http.headers", f"The headers are longer than {HEAD_BYTES:,} bytes.", "Send fewer.")
            await response(problem)(scope, receive, send)
        else:
            await self._app(scope, receive, send)
