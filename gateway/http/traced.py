"""A span for each request, in the trace of who sent it."""

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http.metrics import METHODS, route_of

if TYPE_CHECKING:
    from deploy.observed.traces import Traces

UNSAID = ("/livez", "/readyz", "/metrics")
"""What machines ask all the time."""


class Traced:
    """Stands behind the guards: who is refused there leaves no span."""

    def __init__(self, app: ASGIApp, traces: "Traces") -> None:
        self._app, self._traces = app, traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["path"] in UNSAID:
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        with self._traces.request(method, Request(scope).headers) as answered:

            async def told(message: Message) -> None:
                if message["type"] == "http.response.start":
                    answered(message["status"], route_of(scope))
                await send(message)

            await self._app(scope, receive, told)
