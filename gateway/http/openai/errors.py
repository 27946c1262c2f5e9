"""All errors under /v1 in OpenAI's shape, whoever they come from: the pages, what stands before them, or a bug."""

import re
from typing import Literal

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http.bodies import Json
from schemas.envelope import UNREADABLE
from schemas.errors import ErrorInfo

PREFIX = "/v1/"
LARGEST = 64 * 1024
"""Bytes of an error that are looked at: ours are far shorter."""
CODES = {"model.unknown": "model_not_found", 401: "invalid_api_key", 429: "rate_limit_exceeded"}
"""What clients look for, by our code or by status; all other codes are ours."""
_PARAM = re.compile(r"`(?:\$\.)([\w.\[\]]+)`|required field `(\w+)`")
"""Where msgspec says what is wrong."""
_OURS = re.compile(r"^(n|model|messages|tool_choice|function_call|response_format)\.")
"""Codes that begin with the name of what was sent."""

Kind = Literal["invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"]
_KINDS: dict[int, Kind] = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Wrong(msgspec.Struct, frozen=True):
    """What is wrong, and with which field."""

    message: str
    type: Kind
    param: str | None
    code: str


class Failed(msgspec.Struct, frozen=True):
    """An error in OpenAI's shape."""

    error: Wrong


class _Ours(msgspec.Struct, frozen=True):
    error: ErrorInfo


def failed(error: ErrorInfo, status: int) -> Failed:
    """An error of ours in OpenAI's shape."""
    named, found = _OURS.match(error.code), _PARAM.search(error.message)
    param = named[1] if named else found[1] or found[2] if found else None
    if error.code.startswith(("goal.", "history.")):
        param = "messages"
    kind = _KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    code = CODES.get(error.code) or CODES.get(status) or error.code
    return Failed(Wrong(f"{error.message} {error.hint}".strip(), kind, param, code))


class InOpenAIsShape:
    """Gives errors under /v1 the shape that OpenAI's clients read. It stands before all else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and what is answered back."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        started, body = False, bytearray()
        start: Message = {}

        async def pass_on(message: Message) -> None:
            nonlocal started, start
            if message["type"] == "http.response.start":
                started = True
                if message["status"] >= 400:
                    start = message
                    return
            elif start and message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if not message.get("more_body"):
                    await self._said(start, bytes(body[:LARGEST]), scope, receive, send)
                return
            await send(message)

        try:
            await self._app(scope, receive, pass_on)
        except Exception:
            if not started:
                bug = ErrorInfo("bug", "Victoria made a mistake.", "Its log says which; please report it.")
                await Json(failed(bug, 500), 500)(scope, receive, send)
            raise  # whoever runs this logs it

    async def _said(self, start: Message, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        status = start["status"]
        try:
            answer: object = failed(msgspec.json.decode(body, type=_Ours).error, status)
        except UNREADABLE:
            answer = msgspec.Raw(body) if body.startswith(b"{") else failed(_unsaid(status), status)
        said = Json(answer, status)
        said.raw_headers += [each for each in start["headers"] if each[0] not in (b"content-length", b"content-type")]
        await said(scope, receive, send)


def _unsaid(status: int) -> ErrorInfo:
    return ErrorInfo("http.refused", f"The request was refused with {status}.")
