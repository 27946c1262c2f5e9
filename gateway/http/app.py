"""All pages on one screen."""

from starlette.applications import Starlette

from gateway.http.about import About
from gateway.http.door import Door
from gateway.http.failure import handlers
from gateway.http.guards import guards
from gateway.http.pages import Page, routed
from gateway.http.runs import Runs


def pages(door: Door) -> list[Page]:
    """Every page behind a door: routes and the OpenAPI document are made of these."""
    about = About(door)
    found = [
        *Runs(door).pages,
        *about.pages,
    ]
    about.describe(found)
    return found


def app(door: Door) -> Starlette:
    """The application behind a door."""
    found = pages(door)
    return Starlette(
        routes=routed(found),
        middleware=guards(door, found),
        exception_handlers=handlers(door.victoria.url),
    )
