"""What happens to a run as server-sent events: `GET /run/{task_id}/events`.

Each has an `id` by which any instance can go on from it, so that a client that comes again with the `Last-Event-ID` it
had, as browsers do by themselves, misses nothing and has nothing twice. After `result` nothing comes: asking for more
is 204. A client that does not read is not waited for: what it has not taken stays on the streams.

A late client has what the server still has: pieces of answers are there for an hour, the result as long as the run is.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any, cast, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.http.bodies import TaskView
from gateway.http.door import Door
from gateway.http.follower import PLACE, Happened
from gateway.http.pages import Page, Parameter, Reply
from schemas.errors import VictoriaError
from schemas.events import AnswerProgressed, RunFinished, RunProgressed
from schemas.plan import Plan, StepStatus

KEEP_ALIVE = 15.0
"""Seconds after which a comment is sent where nothing else is."""
NAMES = (*get_args(RunProgressed.__annotations__["kind"]), "token", "result")
COME_AGAIN = 1_000
"""Milliseconds after which a browser comes again."""

_AFTER = Annotated[str, msgspec.Meta(pattern=PLACE)]
_LAST = "The id of the last event that came; without one they come from the beginning."

Batches = AsyncGenerator[list[Happened]]


class Going(msgspec.Struct, frozen=True, omit_defaults=True):
    """The data of all events but `token` and `result`; what is empty is left out."""

    at: datetime
    stage: str
    text: str = ""
    step_id: str = ""
    status: StepStatus | None = None
    question_id: str = ""
    choices: tuple[str, ...] = ()
    plan: Plan | None = None


class Token(msgspec.Struct, frozen=True):
    """The data of a `token`: a piece of an answer. `offset` is how many characters came before it; at 0 an answer
    begins anew, and what was said before is void. `step` is the plan's step it is for, "" for none."""

    step: str
    effect: str
    offset: int
    text: str


class EventStream(StreamingResponse):
    """A response of events that closes their source, however it ends."""

    media_type = "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        async with aclosing(cast("Any", self.body_iterator)):
            await super().__call__(scope, receive, send)


class Events:
    """The page of a run's events."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @property
    def pages(self) -> list[Page]:
        """Its row of the table."""
        return [
            Page(
                method="GET",
                path="/run/{task_id}/events",
                serve=self.run_events,
                summary="What happens to a run, as server-sent events, until its result",
                replies={
                    200: Reply("Its events: " + ", ".join(NAMES) + ".", media=EventStream.media_type),
                    204: Reply("The result was the last one.", media=""),
                },
                parameters=(
                    Parameter("Last-Event-ID", "header", _AFTER, _LAST),
                    Parameter("last_event_id", "query", _AFTER, _LAST),
                ),
                tag="Runs",
            )
        ]

    async def run_events(self, request: Request) -> Response:
        """`GET /run/{task_id}/events`: from the beginning, or after the event that `Last-Event-ID` names."""
        task_id = request.path_params["task_id"]
        after = request.headers.get("last-event-id") or request.query_params.get("last_event_id", "")
        batches = self._door.live.batches(task_id, after, KEEP_ALIVE)
        first = await anext(batches, None)  # what is wrong is said before anything else
        if first is None:
            return Response(status_code=204)
        return EventStream(self._lines(task_id, first, batches), headers={"Cache-Control": "no-store"})

    async def _lines(self, task_id: str, first: list[Happened], batches: Batches) -> AsyncGenerator[bytes]:
        async with aclosing(batches):
            yield b"retry: %d\n\n" % COME_AGAIN
            try:
                if first:
                    yield await self._said(task_id, first)
                async for batch in batches:
                    yield await self._said(task_id, batch) if batch else b": still here\n\n"
            except VictoriaError:  # this door stops, or the server is away at the end: the client comes again
                return

    async def _said(self, task_id: str, batch: list[Happened]) -> bytes:
        return b"".join([b"id: %b\nevent: %b\ndata: %b\n\n" % await self._fields(task_id, each) for each in batch])

    async def _fields(self, task_id: str, happened: Happened) -> tuple[bytes, bytes, bytes]:
        """Id, name and data of an event."""
        match happened.body:
            case RunProgressed() as e:
                name = e.kind
                data: Any = Going(happened.at, e.stage, e.text, e.step_id, e.status, e.question_id, e.choices, e.plan)
            case AnswerProgressed() as e:
                name, data = "token", Token(e.step, e.effect, e.offset, e.text)
            case RunFinished():
                standing = await self._door.standings.of(task_id)
                name, data = "result", TaskView.of(standing, self._door.agent)
        return happened.id.encode(), name.encode(), msgspec.json.encode(data)
