"""Pages about who works and how, and about conversations."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from consumers.intake import session_named
from consumers.sessions import SessionView
from deploy.people import experts, strategies
from deploy.settings import Settings
from deploy.tools import registry
from deploy.victoria import Victoria
from gateway.http.bodies import Json
from gateway.http.pages import Page, Reply
from gateway.sessions import known


class ExpertView(msgspec.Struct, frozen=True):
    """An expert, and how good it is at what it can."""

    name: str
    display_name: str
    title: str
    department: str
    strategy: str
    capabilities: dict[str, float]


class StrategyView(msgspec.Struct, frozen=True):
    """A shape that plans can have, and for which kinds of goals it is chosen."""

    name: str
    description: str
    suits: tuple[str, ...]


class Cleared(msgspec.Struct, frozen=True):
    """How many exchanges a session has forgotten."""

    session: str
    cleared: int


def experts_of(settings: Settings) -> list[ExpertView]:
    """All experts of these settings."""
    people = experts(settings, registry(settings), strategies(settings)).roster().experts.values()
    return [ExpertView(e.name, e.display_name, e.title, e.department, e.strategy, dict(e.capabilities)) for e in people]


def strategies_of(settings: Settings) -> list[StrategyView]:
    """All strategies of these settings."""
    found = strategies(settings).by_name.values()
    return [StrategyView(each.name, each.description, tuple(each.suits)) for each in found]


class People:
    """The pages about experts, strategies and sessions."""

    def __init__(self, victoria: Victoria) -> None:
        self._victoria = victoria

    @property
    def pages(self) -> list[Page]:
        """Their rows of the table."""
        return [
            Page(
                method="GET",
                path="/experts",
                serve=self.experts,
                summary="Who carries steps out",
                replies={200: Reply("The experts.", list[ExpertView])},
            ),
            Page(
                method="GET",
                path="/strategies",
                serve=self.strategies,
                summary="The shapes that plans can have",
                replies={200: Reply("The strategies.", list[StrategyView])},
            ),
            Page(
                method="GET",
                path="/sessions/{session_id:path}",
                serve=self.session,
                summary="What was said in a session, and the runs in its line",
                replies={200: Reply("What is known of it.", SessionView)},
                tag="Sessions",
                refusals=(400,),
            ),
            Page(
                method="DELETE",
                path="/sessions/{session_id:path}",
                serve=self.clear_session,
                summary="Forget what was said in a session",
                replies={200: Reply("It is forgotten.", Cleared)},
                scope="publish",
                tag="Sessions",
                refusals=(400,),
            ),
        ]

    async def experts(self, _request: Request) -> Response:
        """`GET /experts`."""
        return Json(experts_of(self._victoria.settings))

    async def strategies(self, _request: Request) -> Response:
        """`GET /strategies`."""
        return Json(strategies_of(self._victoria.settings))

    async def session(self, request: Request) -> Response:
        """`GET /sessions/{session_id}`."""
        return Json(await known(self._victoria, request.path_params["session_id"]))

    async def clear_session(self, request: Request) -> Response:
        """`DELETE /sessions/{session_id}`."""
        session = session_named(request.path_params["session_id"])
        return Json(Cleared(session, await self._victoria.sessions.clear(session)))
