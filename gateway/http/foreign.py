"""No requests by which somebody else's web page would use a browser on this machine to get in.

A door on loopback is open to every browser there. A browser says which page a request comes from (`Origin`), and by
which name it reached this server (`Host`): a page elsewhere can have its own name lead here.
"""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.http.failure import response
from schemas.errors import InvalidInput


class NoForeigners:
    """Refuses requests for other hosts than this machine, and those of other servers' pages, with 403."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app, self._host = app, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        host, origin = headers.get("host", self._host), headers.get("origin")
        if not is_here(host, self._host) or origin not in (None, f"http://{host}", f"https://{host}"):
            problem = InvalidInput(
                "http.foreign",
                "This request comes from elsewhere.",
                "Send it to localhost, not by a page.",
            )
            await response(problem)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def is_here(host: str, own: str) -> bool:
    """Whether a Host header, `name` or `name:port`, means this machine; `own` is the name the server was given."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in (own, "localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
