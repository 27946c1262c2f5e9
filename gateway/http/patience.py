"""HTTP as uvicorn speaks it. That waits for ever for the rest of a request's head: here it has to come in time."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

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
