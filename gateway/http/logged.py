"""What every answer has, whoever gives it: the request's id, headers for browsers, and a line in the log.

The id is in all log events of its request. Neither bodies nor queries nor headers are logged.
"""

import re
from time import perf_counter
from typing import Any
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http.callers import caller_of

ID = "X-Request-Id"
GIVEN = re.compile(r"[\w.:=+/-]{1,128}", re.ASCII)
"""An id that is taken as it came; another one is made in place of anything else."""
BROWSERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
"""What browsers are told, unless a page says otherwise: to run, frame and keep nothing."""
PROBES = frozenset({"/livez", "/readyz", "/metrics"})

_log: Any = structlog.get_logger()


class Logged:
    """Stands before all else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and log how it ended; `status` is 0 where nothing was answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(ID, "")
        request_id = given if GIVEN.fullmatch(given) else uuid4().hex
        # Bound for good: each request has a task of its own, and the server logs of it after this has ended.
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status, began = 0, perf_counter()

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[ID] = request_id
                for name, value in BROWSERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, told)
        finally:
            log = _log.debug if scope["path"] in PROBES else _log.info
            log(
                "http.request",
                method=scope["method"],
                route=getattr(scope.get("route"), "path", ""),
                status=status,
                ms=round((perf_counter() - began) * 1000, 1),
                caller=caller_of(HTTPConnection(scope)).name,
            )
