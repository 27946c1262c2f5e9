"""What a page is: one row of the table from which both its route and its description are made, so that they agree."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http.bodies import JSON
from gateway.http.callers import allowed

Serve = Callable[[Request], Awaitable[Response]]
Scope = Literal["read", "publish", "admin", ""]
"""What a caller's token must allow; "" is for anybody."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a page takes beside its body and the ids in its path. `shape` is a type, which may be annotated."""

    name: str
    where: Literal["query", "header"]
    shape: Any
    says: str


@dataclass(frozen=True, slots=True)
class Reply:
    """One kind of answer: its body's type, None where that is no JSON but `media`; "" is no body.

    `links` are operations that go on from it, with where it has the id they want: `{"run_status": "task_id"}`.
    """

    says: str
    shape: Any = None
    media: str = JSON
    headers: dict[str, str] = field(default_factory=dict[str, str])
    links: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A method on a path. `replies` are the good answers by status, `refusals` the statuses of errors that are its
    own: those that any page may give, and those about bodies and ids, need not be listed."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    serve: Serve
    summary: str
    replies: Mapping[int, Reply]
    scope: Scope = "read"
    body: type[msgspec.Struct] | None = None
    parameters: tuple[Parameter, ...] = ()
    refusals: tuple[int, ...] = ()
    tag: str = "Victoria"
    listed: bool = True
    """Whether the document has it."""

    @property
    def name(self) -> str:
        """That of the operation, by its handler."""
        return getattr(self.serve, "__name__", "page")


def routed(pages: Iterable[Page]) -> list[Route]:
    """Routes of these pages, one a path, so that a wrong method is told all that there are."""
    by_path: dict[str, dict[str, Serve]] = {}
    for page in pages:
        by_path.setdefault(page.path, {})[page.method] = allowed(page.scope, page.serve)
    return [Route(path, _by_method(serves), methods=list(serves)) for path, serves in by_path.items()]


def _by_method(serves: Mapping[str, Serve]) -> Serve:
    async def serve(request: Request) -> Response:
        return await serves["GET" if request.method == "HEAD" else request.method](request)

    return serve
