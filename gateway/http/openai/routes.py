"""Where the pages are."""

from starlette.routing import Route

from gateway.http.door import Door
from gateway.http.openai.chat import Chat
from gateway.http.openai.models import Catalogue


def routes(door: Door) -> list[Route]:
    """All of them."""
    models = Catalogue(door.victoria)
    return [
        Route("/v1/models", models.page),
        Route("/v1/models/{id:path}", models.one),
        Route("/v1/chat/completions", Chat(door, models).completions, methods=["POST"]),
    ]
