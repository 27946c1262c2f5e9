"""Where the pages are. OpenAI's own document describes them, so that ours does not."""

from gateway.http.door import Door
from gateway.http.openai.bodies import ChatRequest, Completion, Model, Models
from gateway.http.openai.chat import Chat
from gateway.http.openai.models import Catalogue
from gateway.http.pages import Page, Reply


def pages(door: Door) -> list[Page]:
    """All of them."""
    models = Catalogue(door.victoria)
    return [
        Page(
            method="GET",
            path="/v1/models",
            serve=models.page,
            summary="All that can be talked to",
            replies={200: Reply("Victoria, the strategies, the experts", Models)},
            listed=False,
        ),
        Page(
            method="GET",
            path="/v1/models/{id:path}",
            serve=models.one,
            summary="One of them",
            replies={200: Reply("It", Model)},
            listed=False,
        ),
        Page(
            method="POST",
            path="/v1/chat/completions",
            serve=Chat(door, models).completions,
            summary="The next turn of a conversation, which a run answers",
            replies={200: Reply("What the run says, whole or as it comes", Completion)},
            scope="publish",
            body=ChatRequest,
            listed=False,
        ),
    ]
