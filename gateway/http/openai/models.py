"""What can be talked to as a model: Victoria, each of the strategies, each of the experts."""

import time
from difflib import get_close_matches
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from deploy.people import experts, strategies
from deploy.tools import registry
from deploy.victoria import Victoria
from gateway.http.bodies import Json
from gateway.http.openai.bodies import Model, Models
from schemas.errors import InvalidInput

VICTORIA, STRATEGY, EXPERT = "victoria", "strategy:", "expert:"
"""A strategy and an expert may have the same name, and an expert is called victoria."""


class Wanted(NamedTuple):
    """Who plans and who works, "" for whoever fits best."""

    strategy: str = ""
    expert: str = ""


class Catalogue:
    """The models of a Victoria, and their pages."""

    def __init__(self, victoria: Victoria) -> None:
        self._enhanced = victoria.settings.use_victoria_enhanced
        self._strategies = strategies(victoria.settings)
        self._experts = experts(victoria.settings, registry(victoria.settings), self._strategies)
        self._created = int(time.time())

    async def page(self, _request: Request) -> Response:
        """`GET /v1/models`."""
        return Json(Models(tuple(self.models().values())))

    async def one(self, request: Request) -> Response:
        """`GET /v1/models/{id}`."""
        return Json(self.find(request.path_params["id"]))

    def models(self) -> dict[str, Model]:
        """All models by their ids; experts' files are looked at each time."""
        found = [self._model(VICTORIA, "Victoria", "plans and does whatever is wanted, by whoever fits best")]
        if self._enhanced:
            ways, people = self._strategies.by_name.values(), self._experts.roster().experts.values()
            found += [self._model(STRATEGY + each.name, each.name, each.description) for each in ways]
            found += [
                self._model(EXPERT + each.name, f"{each.emoji} {each.display_name}".strip(), each.title)
                for each in people
            ]
        return {model.id: model for model in found}

    def find(self, model: str) -> Model:
        """The model of that id. Raises InvalidInput `model.unknown`."""
        models = self.models()
        if found := models.get(model):
            return found
        near = get_close_matches(model[:80], models, 1)
        hint = f"Did you mean {near[0]}?" if near else "GET /v1/models lists them."
        raise InvalidInput("model.unknown", f"There is no model {model[:80]!r}.", hint)

    def wanted(self, model: str) -> Wanted:
        """Whom a model stands for. Raises InvalidInput `model.unknown`."""
        kind, name = self.find(model).id, ""
        if kind != VICTORIA:
            kind, _, name = kind.partition(":")
        return Wanted(name, "") if f"{kind}:" == STRATEGY else Wanted("", name)

    def _model(self, model: str, name: str, description: str) -> Model:
        return Model(model, self._created, VICTORIA, name, description)
