"""What is wrong, as a response: one shape for all errors, and the status that fits."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gateway.complain import Bug
from gateway.http.bodies import Json
from schemas.errors import CouldNotStart, InvalidInput, NotReachable, Overloaded, VictoriaError
from streams.connection import reachable

STATUS = {
    "run.unknown": 404,
    "run.hypothesis": 404,
    "model.unknown": 404,
    "session.unknown": 404,
    "run.other_goal": 409,
    "goal.too_large": 413,
    "history.too_large": 413,
    "answer.too_large": 413,
    "http.too_large": 413,
    "http.headers": 431,
    "http.slow": 408,
    "http.token": 401,
    "http.scope": 403,
    "http.foreign": 403,
    "http.no_page": 404,
    "http.media": 415,
    "question.unknown": 404,
    "question.closed": 409,
    "http.rate": 429,
    "http.at_once": 429,
}
"""Where the kind of an error does not say it."""
PAGES = "GET /docs shows all there are."
RETRY_AFTER = 1.0
"""Seconds after which a part that is away may be back."""


class Fault(msgspec.Struct, frozen=True):
    """What is wrong: `code` is stable, to be matched on; `hint` says what to do."""

    code: str
    message: str
    hint: str


class Problem(msgspec.Struct, frozen=True):
    """The body of every error."""

    error: Fault


def response(problem: VictoriaError, headers: Mapping[str, str] | None = None) -> Response:
    """The response that says what is wrong, and what to do."""
    headers = dict(headers or {})
    match problem:
        case Overloaded():
            status, headers["Retry-After"] = STATUS.get(problem.code, 503), str(math.ceil(problem.retry_after))
        case NotReachable() | CouldNotStart():
            status, headers["Retry-After"] = 503, str(math.ceil(RETRY_AFTER))
        case InvalidInput():
            status = STATUS.get(problem.code, 400)
            if status == 401:
                headers["WWW-Authenticate"] = "Bearer"
        case _:
            status = 500
    return Json(Problem(Fault(problem.code, problem.message, problem.hint)), status, headers)


def handlers(url: str) -> Mapping[Any, Any]:
    """How the application meets each kind of exception; `url` is the server that redis errors are about."""

    async def ours(_request: Request, problem: VictoriaError) -> Response:
        return response(problem)

    async def server_trouble(_request: Request, problem: RedisError | OSError) -> Response:
        try:
            with reachable(url):
                raise problem
        except VictoriaError as trouble:
            return response(trouble)

    async def no_such_page(request: Request, problem: HTTPException) -> Response:
        code = {404: "http.no_page", 405: "http.method"}.get(problem.status_code, "http.refused")
        told = InvalidInput(code, f"{request.method} {request.url.path[:200]}: {problem.detail}.", PAGES)
        said = response(told, problem.headers)
        said.status_code = problem.status_code
        return said

    async def gone(_request: Request, _problem: ClientDisconnect) -> Response:
        return Response(status_code=400)  # which nobody hears

    async def bug(_request: Request, _problem: Exception) -> Response:
        return response(Bug("bug", "Victoria made a mistake.", "Its log says which; please report it."))

    return {
        VictoriaError: ours,
        RedisError: server_trouble,
        TimeoutError: server_trouble,
        ConnectionError: server_trouble,
        HTTPException: no_such_page,
        ClientDisconnect: gone,
        Exception: bug,
    }
