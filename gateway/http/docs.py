"""The OpenAPI document of all pages, and a page to read it and try things out, without anything from elsewhere."""

from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from gateway.http.bodies import Json
from gateway.http.door import Door
from gateway.http.openapi import document
from gateway.http.pages import Page, Reply
from gateway.http.people import experts_of, strategies_of
from schemas.errors import InvalidInput

READER = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Victoria</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger.css">
</head>
<body>
<div id="reader"></div>
<noscript>This page needs JavaScript; <a href="/openapi.json">/openapi.json</a> has the same.</noscript>
<script src="/docs/swagger.js"></script>
<script src="/docs/reader.js"></script>
</body>
</html>
"""
START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#reader", deepLinking: true, validatorUrl: null});\n'
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFE = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
FILES = {"swagger.js": ("swagger_bundle.js", "text/javascript"), "swagger.css": ("swagger_style.css", "text/css")}
"""What Swagger UI needs, and how its package calls it."""
KEPT = {"Cache-Control": "max-age=86400"}


class Links(msgspec.Struct, frozen=True):
    """Where to go on from here."""

    name: str
    version: str
    docs: str = "/docs"
    openapi: str = "/openapi.json"
    status: str = "/status"


class Docs:
    """The pages about all pages."""

    def __init__(self, door: Door) -> None:
        self._settings = door.victoria.settings
        self._document: dict[str, Any] = {}
        # Not imported: that would read all it has.
        package = find_spec("offapi")
        self._folder = Path(package.origin).parent if package and package.origin else Path()

    def describe(self, pages: Sequence[Page]) -> None:
        """Make the document of all pages."""
        known, people = strategies_of(self._settings), experts_of(self._settings)
        names = {"strategy": ["", *(each.name for each in known)], "expert": ["", *(each.name for each in people)]}
        self._document = document(pages, {"RunRequest": names})

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
                path="/openapi.json",
                serve=self.openapi,
                summary="This document",
                replies={200: Reply("OpenAPI 3.1.", dict[str, Any])},
                scope="",
            ),
            Page(
                method="GET",
                path="/docs",
                serve=self.docs,
                summary="A page to read this document and try things out",
                replies={200: Reply("HTML.", media="text/html")},
                scope="",
            ),
            Page(
                method="GET",
                path="/docs/{file}",
                serve=self.file,
                summary="What that page is made of",
                replies={},
                scope="",
                listed=False,
            ),
        ]

    async def links(self, _request: Request) -> Response:
        """`GET /`."""
        return Json(Links("Victoria", version("victoria-streams")))

    async def openapi(self, _request: Request) -> Response:
        """`GET /openapi.json`."""
        return Json(self._document)

    async def docs(self, _request: Request) -> Response:
        """`GET /docs`."""
        return Response(READER, media_type="text/html", headers=SAFE)

    async def file(self, request: Request) -> Response:
        """`GET /docs/{file}`."""
        name = request.path_params["file"]
        if name == "reader.js":
            return Response(START, media_type="text/javascript", headers={**SAFE, **KEPT})
        if name not in FILES:
            raise InvalidInput("http.no_page", f"There is no {name[:80]!r} here.", "GET /docs shows what there is.")
        found, media = FILES[name]
        return FileResponse(self._folder / found, media_type=media, headers={**SAFE, **KEPT})
