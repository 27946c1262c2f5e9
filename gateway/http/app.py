"""All pages on one screen."""

from starlette.applications import Starlette
from starlette.middleware import Middleware

from gateway.http.docs import Docs
from gateway.http.door import Door
from gateway.http.events import Events
from gateway.http.failure import handlers
from gateway.http.guards import guards
from gateway.http.health import Health
from gateway.http.metrics import Measured
from gateway.http.openai import pages as openai
from gateway.http.openai.errors import InOpenAIsShape
from gateway.http.pages import Page, routed
from gateway.http.people import People
from gateway.http.questions import Questions
from gateway.http.runs import Runs
from gateway.http.traced import Traced


def pages(door: Door) -> list[Page]:
    """Every page behind a door: routes and the OpenAPI document are made of these."""
    docs = Docs(door)
    found = [
        *Runs(door).pages,
        *Events(door).pages,
        *People(door.victoria).pages,
        *Questions(door).pages,
        *Health(door).pages,
        *docs.pages,
        *openai.pages(door),
    ]
    docs.describe(found)
    return found


def app(door: Door) -> Starlette:
    """The application behind a door."""
    found = pages(door)
    served = Starlette(
        routes=routed(found),
        middleware=[
            Middleware(InOpenAIsShape),
            Middleware(Measured, metrics=door.metrics),
            *guards(door, found),
            *([Middleware(Traced, traces=door.victoria.traces)] if door.victoria.traces else []),
        ],
        exception_handlers=handlers(door.victoria.url),
    )
    served.router.redirect_slashes = False  # such a redirection would name whatever host the client said
    return served
