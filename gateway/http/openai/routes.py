"""Where the pages are."""

from starlette.routing import Route

from gateway.http.callers import allowed
from gateway.http.door import Door
from gateway.http.openai.chat import Chat
from gateway.http.openai.models import Catalogue


def routes(door: Door) -> list[Route]:
    """All of them."""
    models = Catalogue(door.victoria)
    return [
        Route("/v1/models", allowed("read", models.page)),
        Route("/v1/models/{id:path}", allowed("read", models.one)),
        Route("/v1/chat/completions", allowed("publish", Chat(door, models).completions), methods=["POST"]),
    ]
