"""No requests by which somebody else's web page would use a browser on this machine to get in.

A door on loopback is open to every browser there. A browser says which page a request comes from (`Origin`), and by
which name it reached this server (`Host`): a page elsewhere can have its own name lead here. Pages and names that the
settings list may come; nothing else does.
"""

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.settings import Settings
from gateway.http.failure import response
from schemas.errors import InvalidInput


class NoForeigners:
    """Refuses requests for other hosts than this one, and those of pages elsewhere, with 403.

    `names` are hosts, `origins` pages that may come beside its own. Where it is not `local`, those who call have
    tokens, which no page knows: then any host may be named, unless `names` say which.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        *,
        local: bool = True,
        names: Collection[str] = (),
        origins: Collection[str] = (),
    ) -> None:
        self._app, self._local = app, local
        self._host, self._names, self._origins = host, {host, "localhost", *names}, origins
        self._any_name = not local and not names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        host, origin = headers.get("host", self._host), headers.get("origin")
        pages = (None, f"http://{host}", f"https://{host}", *self._origins)
        if self._is_here(host) and origin in pages:
            await self._app(scope, receive, send)
            return
        problem = InvalidInput(
            "http.foreign",
            "This request comes from elsewhere.",
            "Send it to localhost, not by a page; or name the host in http_hosts, the page in http_origins.",
        )
        await response(problem)(scope, receive, send)

    def _is_here(self, host: str) -> bool:
        name = hostname(host)
        if name and (self._any_name or name in self._names):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._local  # a page's name that leads here is no address


def hostname(host: str) -> str:
    """The name in a Host header, `name` or `name:port`; "" where there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def listed(settings: Settings) -> tuple[list[str], list[str]]:
    """The hosts and the origins that the settings let in. Raises InvalidInput `settings.invalid`."""
    names = _items(settings.http_hosts, "http_hosts", r"[\w.-]+|\[[\da-f:.]+\]", "ai.example.org")
    origins = _items(
        settings.http_origins, "http_origins", r"https?://([\w.-]+|\[[\da-f:.]+\])(:\d+)?", "https://a.org"
    )
    return [name.strip("[]") for name in names], origins


def _items(text: str, key: str, pattern: str, example: str) -> list[str]:
    items = [item.strip().lower() for item in text.split(",") if item.strip()]
    for item in items:
        if not re.fullmatch(pattern, item, re.ASCII):
            raise InvalidInput(
                "settings.invalid", f"`{key}` has {item[:80]!r}.", f"Write what browsers send, as {example}, ..."
            )
    return items
