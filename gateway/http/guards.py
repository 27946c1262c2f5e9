"""What stands before the pages, from the outside inwards."""

import re
from collections.abc import Iterable

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import compile_path

from deploy.victoria import Victoria
from gateway.http.callers import Callers, Register
from gateway.http.door import Door
from gateway.http.foreign import NoForeigners, listed
from gateway.http.logged import ID
from gateway.http.pages import Page
from gateway.http.patience import ShortHeads
from gateway.http.rates import Rates
from gateway.http.tokens import Tokens

USUAL_RATE = "6000/minute"
"""How often each caller may send something to a door that others can reach, unless the settings say."""
ASK_AGAIN = 600
"""Seconds for which a browser need not ask again what a page may send."""


def register_of(victoria: Victoria, *, local: bool) -> Register:
    """The tokens by which a door knows who calls, which only this machine reaches if it is `local`."""
    lenient = local and victoria.settings.http_auth == "auto"
    return Register(Tokens(victoria.client, victoria.keys, victoria.url), lenient=lenient)


def guards(door: Door, pages: Iterable[Page]) -> list[Middleware]:
    """Those of a door. Raises InvalidInput `settings.invalid`."""
    victoria, settings = door.victoria, door.victoria.settings
    names, origins = listed(settings)
    rate = settings.http_rate
    if rate == "auto":
        rate = "none" if door.local else USUAL_RATE
    found = [Middleware(ShortHeads)]
    found.append(Middleware(NoForeigners, host=settings.http_host, local=door.local, names=names, origins=origins))
    if origins:
        found.append(
            Middleware(
                CORSMiddleware,
                allow_origins=origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["*"],
                expose_headers=[ID, "Retry-After", "Location"],
                max_age=ASK_AGAIN,
            )
        )
    found.append(
        Middleware(
            Callers,
            register=register_of(victoria, local=door.local),
            rates=Rates(victoria.client, victoria.keys, rate),
            at_once=settings.http_at_once,
            free=_free(pages),
        )
    )
    return found


def _free(pages: Iterable[Page]) -> list[re.Pattern[str]]:
    """The paths whose pages are for everybody."""
    asked = {page.path for page in pages if page.scope}
    free = sorted({page.path for page in pages if not page.scope} - asked)
    return [compile_path(path)[0] for path in free]
