"""Pages about the door itself."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from deploy.people import strategies
from gateway.http.bodies import Json
from gateway.http.door import Door
from gateway.http.openapi import document
from gateway.http.pages import Page, Reply


class Alive(msgspec.Struct, frozen=True):
    """This process answers."""

    status: str = "ok"


class Links(msgspec.Struct, frozen=True):
    """Where to go on from here."""

    name: str
    version: str
    docs: str = "/docs"
    openapi: str = "/openapi.json"
    status: str = "/status"


class Levels(msgspec.Struct, frozen=True):
    """Which of Victoria's three levels are on."""

    agent: bool
    enhanced: bool
    initiative: bool


class Status(msgspec.Struct, frozen=True):
    """What this installation is, and how much it has in hand."""

    agent: str
    version: str
    victoria_levels: Levels
    load: int


class About:
    """The pages about the door."""

    def __init__(self, door: Door) -> None:
        self._door, self._victoria = door, door.victoria
        self._document: dict[str, Any] = {}

    def describe(self, pages: Sequence[Page]) -> None:
        """Make the document of all pages."""
        known = strategies(self._victoria.settings).by_name
        self._document = document(pages, {"RunRequest": {"strategy": ["", *known]}})

    @property
    def pages(self) -> list[Page]:
        """Their rows of the table."""
        return [
            Page(
                method="GET",
                path="/",
                serve=self.links,
                summary="Where to go on",
                replies={200: Reply("Links.", Links)},
                scope="",
            ),
            Page(
                method="GET",
                path="/status",
                serve=self.status,
                summary="Levels, versions, stages, models and load",
                replies={200: Reply("How it is.", Status)},
            ),
            Page(
                method="GET",
                path="/livez",
                serve=self.livez,
                summary="Whether this process answers",
                replies={200: Reply("It does.", Alive)},
                scope="",
            ),
            Page(
                method="GET",
                path="/openapi.json",
                serve=self.openapi,
                summary="This document",
                replies={200: Reply("OpenAPI 3.1.", dict[str, Any])},
                scope="",
            ),
        ]

    async def links(self, _request: Request) -> Response:
        """`GET /`."""
        return Json(Links("Victoria", version("victoria-streams")))

    async def status(self, _request: Request) -> Response:
        """`GET /status`."""
        settings = self._victoria.settings
        levels = Levels(True, settings.use_victoria_enhanced, settings.enable_event_monitoring)
        return Json(Status(self._door.agent, version("victoria-streams"), levels, self._door.load))

    async def livez(self, _request: Request) -> Response:
        """`GET /livez`: checks nothing else."""
        return Json(Alive())

    async def openapi(self, _request: Request) -> Response:
        """`GET /openapi.json`."""
        return Json(self._document)
