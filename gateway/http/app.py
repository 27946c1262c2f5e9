"""All pages on one screen."""

from importlib.metadata import version

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http.bodies import Json
from gateway.http.door import Door
from gateway.http.failure import handlers
from gateway.http.foreign import NoForeigners
from gateway.http.openai.errors import InOpenAIsShape
from gateway.http.openai.routes import routes as openai
from gateway.http.runs import Runs


def app(door: Door) -> Starlette:
    """The application behind a door."""
    runs = Runs(door)

    async def status(_request: Request) -> Response:
        settings = door.victoria.settings
        levels = {
            "agent": True,
            "enhanced": settings.use_victoria_enhanced,
            "initiative": settings.enable_event_monitoring,
        }
        about = {"agent": door.agent, "version": version("victoria-streams")}
        return Json({**about, "victoria_levels": levels, "load": door.load})

    async def livez(_request: Request) -> Response:
        return Json({"status": "ok"})

    return Starlette(
        routes=[
            Route("/run", runs.submit, methods=["POST"]),
            Route("/run/status/{task_id}", runs.status),
            Route("/run/{task_id}/cancel", runs.cancel, methods=["POST"]),
            Route("/status", status),
            Route("/livez", livez),
            *openai(door),
        ],
        middleware=[Middleware(InOpenAIsShape), Middleware(NoForeigners, host=door.victoria.settings.http_host)],
        exception_handlers=handlers(door.victoria.url),
    )
