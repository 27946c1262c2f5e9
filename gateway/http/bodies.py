"""What comes in and goes out as JSON. What a caller sends beyond these fields is ignored."""

import re
from datetime import datetime
from typing import Annotated, Literal, TypeVar

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from consumers.runs.view import StepView
from gateway.standing import Standing, Waits
from schemas.envelope import EVENT_BYTES, UNREADABLE
from schemas.errors import ErrorInfo, InvalidInput
from schemas.events import Exchange, RunFinished
from schemas.plan import MOST, Known, RunStatus, StepStatus

S = TypeVar("S", bound=msgspec.Struct)

JSON = "application/json"

BODY_BYTES = EVENT_BYTES
"""A larger body is refused: no event could hold it."""
HEARD_OUT = 16 * BODY_BYTES
"""Up to this size a refused body is received and forgotten, since many clients read no answer before they have sent."""
SENDING = 30.0
"""Seconds in which a body must arrive."""
TAKEN = r"|application/([\w.-]+\+)?json|application/x-www-form-urlencoded|text/plain"
"""What a body may be called."""
SAID = msgspec.Meta(extra_json_schema={"pattern": r"[^\s\u001c-\u001f\u0085]"})
"""Of texts that say something: their own checks say what is wrong otherwise."""
LONGEST = 31_536_000
"""Seconds that a run's deadline may be away."""


class Message(msgspec.Struct, frozen=True):
    """One message of a conversation. Only what a user and an assistant said counts."""

    role: str
    content: str | None = None


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /run`. `chat_history` has pairs of question and answer, or messages, the oldest first.

    `strategy` and `expert` are the ones that are wanted. `max_tokens` is what models may use for it, `deadline_seconds`
    the time in which it must end; 0 is no limit. An `unattended` run asks no person anything; by default one with
    async_mode=0 is. The answer to a `fresh` one is found anew, even if an earlier run has.
    """

    goal: Annotated[str, SAID]
    project_context: str | None = None
    session_id: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    chat_history: tuple[tuple[str, str] | Message, ...] | None = None
    strategy: Annotated[str, msgspec.Meta(pattern="^[a-z_]{0,40}$")] | None = None
    expert: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]{0,39}$|^$")] | None = None
    max_tokens: Annotated[float, msgspec.Meta(ge=0, le=MOST, multiple_of=1)] | None = None  # 5.0 is 5, as in JSON
    deadline_seconds: Annotated[float, msgspec.Meta(ge=0, le=LONGEST)] | None = None
    async_mode: bool | Literal[0, 1] | None = None
    unattended: bool | None = None
    fresh: bool | None = None


class CancelRequest(msgspec.Struct, frozen=True):
    """The body of `POST /run/{task_id}/cancel`, which may be empty."""

    reason: Annotated[str, msgspec.Meta(max_length=1_000)] = ""


class Taken(msgspec.Struct, frozen=True):
    """A run goes on in the background."""

    task_id: str
    status_url: str


class StepReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a step ended, and who did it: an `expert`, at another `agent`'s if that is named."""

    id: str
    title: str
    status: StepStatus
    tools: tuple[str, ...]
    seconds: float
    expert: str = ""
    agent: str = ""
    error: ErrorInfo | None = None


class Knowledge(msgspec.Struct, frozen=True):
    """How an answer came about, and who answers for it (`agent`). `known` is the earlier run that had found it, where
    one had."""

    method: str
    model: str
    source: str
    delegated_to: str | None
    agent: str
    task_id: str
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    calls: int
    seconds: float
    steps: tuple[StepReport, ...]
    notes: tuple[str, ...]
    known: Known | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def of(cls, task_id: str, end: RunFinished, agent: str) -> "Knowledge":
        """That of a run's end."""
        meta = end.metadata
        return cls(
            method=end.method,
            model=meta.model,
            source=meta.source,
            delegated_to=meta.delegated_to,
            agent=agent,
            task_id=task_id,
            tokens_in=meta.tokens_in,
            tokens_out=meta.tokens_out,
            tokens_cached=meta.tokens_cached,
            calls=meta.calls,
            seconds=meta.seconds,
            steps=tuple(
                StepReport(s.id, s.title, s.status, s.tools, s.seconds, s.expert, s.agent, s.error) for s in meta.steps
            ),
            notes=meta.notes,
            known=end.known or msgspec.UNSET,
        )


class Answered(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run that was waited for has ended; in what way, its steps and `error` say more exactly."""

    status: Literal["success", "error"]
    output: str
    knowledge: Knowledge
    error: ErrorInfo | None = None

    @classmethod
    def of(cls, task_id: str, end: RunFinished, agent: str) -> "Answered":
        """That of a run's end."""
        status = "success" if end.status == "completed" else "error"
        return cls(status, end.output, Knowledge.of(task_id, end, agent), end.error)


class TaskView(msgspec.Struct, frozen=True):
    """Where a run stands; `output` and `knowledge` once it has ended. `waits_for` says what keeps it from going on,
    and `waiting` the same for programs, as far as it is known: both may be half a second old."""

    task_id: str
    status: RunStatus
    output: str | None
    knowledge: Knowledge | None
    steps: tuple[StepView, ...]
    submitted_at: datetime
    waits_for: str
    waiting: Waits | None
    error: ErrorInfo | None

    @classmethod
    def of(cls, found: Standing, agent: str) -> "TaskView":
        """That of a run as it stands."""
        run, end = found.run, found.run.finished
        return cls(
            task_id=run.run_id,
            status=found.status,
            output=end.output if end else None,
            knowledge=Knowledge.of(run.run_id, end, agent) if end else None,
            steps=run.steps,
            submitted_at=run.submitted_at,
            waits_for=found.waits_for,
            waiting=found.waiting,
            error=found.error,
        )


class Json(Response):
    """A response of any record."""

    media_type = JSON

    def render(self, content: object) -> bytes:
        """The record in JSON."""
        return msgspec.json.encode(content)


def exchanges(said: tuple[tuple[str, str] | Message, ...]) -> tuple[Exchange, ...]:
    """A conversation as pairs; what had no answer stands with an empty one."""
    pairs: list[Exchange] = []
    for turn in said:
        match turn:
            case (user, assistant):
                pairs.append(Exchange(user, assistant))
            case Message(role="user", content=str(text)):
                pairs.append(Exchange(text, ""))
            case Message(role="assistant", content=str(text)) if pairs and not pairs[-1].assistant:
                pairs[-1] = Exchange(pairs[-1].user, text)
            case Message(role="assistant", content=str(text)):
                pairs.append(Exchange("", text))
            case _:
                pass
    return tuple(pairs)


async def read(request: Request, shape: type[S]) -> S:
    """A request's body as a record; an empty body is an empty object.

    It may be called JSON, text, what a form sends (as curl does with any), or nothing at all. Raises InvalidInput
    `http.media`, `http.too_large`, `http.slow`, `http.malformed`, `http.invalid`.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not re.fullmatch(TAKEN, media):
        raise InvalidInput("http.media", f"The body is called {media[:80]!r}.", f"Send JSON, as {JSON}.")
    body = await _received(request) or b"{}"
    hint = f"It is a JSON object with {', '.join(shape.__struct_fields__)}."
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as problem:
        raise InvalidInput("http.invalid", f"The body is not as it should be: {problem}.", hint) from None
    except UNREADABLE as problem:
        raise InvalidInput("http.malformed", f"The body is no JSON: {problem}.", hint) from None


async def _received(request: Request) -> bytes:
    declared = request.headers.get("content-length", "")
    size, body = int(declared) if declared.isdecimal() else 0, bytearray()
    if size <= HEARD_OUT:
        with anyio.move_on_after(SENDING) as late:
            size = 0
            async for chunk in request.stream():
                size += len(chunk)
                if size > HEARD_OUT:
                    break
                if size <= BODY_BYTES:
                    body += chunk
        if late.cancelled_caught:
            raise InvalidInput("http.slow", f"The body did not arrive in {SENDING:g} s.", "Send it faster, or shorter.")
    if size > BODY_BYTES:
        raise InvalidInput(
            "http.too_large",
            f"The body has more than {BODY_BYTES:,} bytes.",
            "Put long material into a file of the project and name the file.",
        )
    return bytes(body)
