"""A chat over HTTP: the pages of a door, and a run's live events, taken up again wherever they were cut."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import anyio
import httpx
import msgspec
from httpx_sse import EventSource, ServerSentEvent, SSEError, aconnect_sse

from consumers.sessions import SessionView
from gateway.chat.line import Away, Ended, Heard, Wish
from gateway.http.bodies import Taken, TaskView
from gateway.http.health import Status
from gateway.http.people import Cleared, ExpertView, StrategyView
from schemas.errors import ErrorInfo, InvalidInput, NotReachable, Overloaded, VictoriaError
from schemas.events import AnswerProgressed, RunProgressed
from schemas.plan import Plan, StepStatus

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds for which a door may be away: as long as its restart takes, and then some."""
AT_FIRST, AT_MOST = 0.1, 1.0
"""Seconds between tries."""
PLAIN = httpx.Timeout(10.0, read=30.0)
LIVE = httpx.Timeout(10.0, read=45.0)
"""Events come at least every 15 s, if only comments."""
AGAIN = (502, 503, 504)
KINDS = ("understood", "plan", "task_start", "task_end", "question", "handoff", "delegated")


class NotAllowed(InvalidInput):
    """The door wants a token, or another one."""


class _Problem(msgspec.Struct, frozen=True):
    error: ErrorInfo


class _Progress(msgspec.Struct, frozen=True):
    """What is said of a run's progress; its kind is the event's name."""

    stage: str = ""
    text: str = ""
    step_id: str = ""
    status: StepStatus | None = None
    plan: Plan | None = None
    question_id: str = ""
    choices: tuple[str, ...] = ()
    at: datetime | None = None


class _Token(msgspec.Struct, frozen=True):
    """A piece of an answer."""

    step: str = ""
    effect: str = ""
    offset: int = 0
    text: str = ""


class OverHttp:
    """The line that leads to a door. `token` is the one it wants, "" for none. Use it inside `connected`."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client, self._url = client, url

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str, token: str) -> AsyncGenerator["OverHttp"]:
        """A line, and its connections closed at the end."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=PLAIN) as client:
            yield cls(client, str(client.base_url).rstrip("/"))

    @property
    def leads_to(self) -> str:
        """The door's URL."""
        return self._url

    async def submit(self, goal: str, wish: Wish) -> str:
        """As Line says."""
        body = {
            "goal": goal,
            "session_id": wish.session,
            "project_context": wish.project or None,
            "strategy": wish.strategy or None,
            "expert": wish.expert or None,
            "async_mode": True,
        }
        key = {"Idempotency-Key": uuid4().hex}  # tried again, it is the same run
        return (await self._ask(Taken, "POST", "/run", body, headers=key)).task_id

    async def events(self, run_id: str) -> AsyncIterator[Heard]:
        """As Line says."""
        last, tries = "", _Tries(PATIENCE)
        while True:
            headers = {"Last-Event-ID": last} if last else {}
            try:
                async with aconnect_sse(
                    self._client, "GET", f"/run/{quote(run_id, safe='')}/events", headers=headers, timeout=LIVE
                ) as source:
                    await self._check(source.response)
                    async for event in self._of(source):
                        tries = _Tries(PATIENCE)
                        last = event.id or last
                        if heard := _heard(event):
                            yield heard
                            if isinstance(heard.body, Ended):
                                return
            except (httpx.TransportError, SSEError) as problem:
                trouble = self._away(problem)
            except NotReachable as problem:
                trouble = problem
            else:
                trouble = NotReachable("door.cut", f"{self._url} ended the events of a run that goes on.")
            yield Heard(datetime.now(UTC), Away(trouble.message))
            await tries.wait(trouble)

    async def cancel(self, run_id: str) -> None:
        """As Line says."""
        body = {"reason": "The user cancelled it."}
        await self._ask(TaskView, "POST", f"/run/{quote(run_id, safe='')}/cancel", body)

    async def answer(self, question_id: str, text: str) -> None:
        """As Line says."""
        await self._ask(dict[str, Any], "POST", f"/questions/{quote(question_id, safe='')}/answer", {"answer": text})

    async def task(self, run_id: str) -> TaskView:
        """As Line says."""
        return await self._ask(TaskView, "GET", f"/run/status/{quote(run_id, safe='')}", patience=0)

    async def status(self) -> Status:
        """As Line says."""
        return await self._ask(Status, "GET", "/status", patience=0)

    async def experts(self) -> dict[str, str]:
        """As Line says."""
        found = await self._ask(list[ExpertView], "GET", "/experts", patience=5)
        return {each.name: f"{each.display_name}, {each.title}" for each in found}

    async def strategies(self) -> dict[str, str]:
        """As Line says."""
        found = await self._ask(list[StrategyView], "GET", "/strategies", patience=5)
        return {each.name: each.description for each in found}

    async def session(self, session: str) -> SessionView | None:
        """As Line says."""
        try:
            return await self._ask(SessionView, "GET", f"/sessions/{quote(session, safe='')}")
        except InvalidInput as problem:
            if problem.code == "session.unknown":
                return None
            raise

    async def clear(self, session: str) -> int:
        """As Line says."""
        return (await self._ask(Cleared, "DELETE", f"/sessions/{quote(session, safe='')}")).cleared

    async def _ask(
        self,
        shape: type[T],
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        patience: float = PATIENCE,
    ) -> T:
        """A page's answer; tried again while the door is away: every request may come twice."""
        tries = _Tries(patience)
        while True:
            try:
                response = await self._client.request(method, path, json=body, headers=headers)
                await self._check(response)
                return msgspec.json.decode(response.content, type=shape)
            except httpx.TransportError as problem:
                await tries.wait(self._away(problem))
            except NotReachable as problem:
                await tries.wait(problem)
            except msgspec.DecodeError as problem:
                hint = "Is it Victoria's door, and of this version?"
                raise InvalidInput("door.garbage", f"{self._url} answers in another way: {problem}.", hint) from None

    async def _of(self, source: EventSource) -> AsyncIterator[ServerSentEvent]:
        async for event in source.aiter_sse():
            yield event

    async def _check(self, response: httpx.Response) -> None:
        """Raise what a door says is wrong."""
        if response.status_code < 300:
            return
        try:
            error = msgspec.json.decode(await response.aread(), type=_Problem).error
        except msgspec.DecodeError:
            message = f"{self._url} answers {response.status_code} {response.reason_phrase}."
            error = ErrorInfo("door.status", message, "Is it Victoria's door?")
        raise _typed(response, error)

    def _away(self, problem: Exception) -> NotReachable:
        message = f"{self._url} does not answer: {type(problem).__name__}."
        return NotReachable("door.unreachable", message, "Start it: victoria serve.")


class _Tries:
    """How often something is tried again: until it has been in vain for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._until, self._delay = anyio.current_time() + seconds, AT_FIRST

    async def wait(self, problem: VictoriaError) -> None:
        """Wait a while, or raise the problem where there was enough of that."""
        if anyio.current_time() + self._delay > self._until:
            raise problem
        await anyio.sleep(self._delay)
        self._delay = min(self._delay * 2, AT_MOST)


def _typed(response: httpx.Response, error: ErrorInfo) -> VictoriaError:
    said = error.code, error.message, error.hint
    after = response.headers.get("Retry-After", "")
    match response.status_code:
        case 401 | 403:
            return NotAllowed(*said)
        case 429:
            return Overloaded(*said, retry_after=float(after) if after.isdecimal() else 1.0)
        case status if status in AGAIN:
            return NotReachable(*said)
        case status if status >= 500:
            return VictoriaError(*said)
        case _:
            return InvalidInput(*said)


def _heard(event: ServerSentEvent) -> Heard | None:
    """What an event tells, None for one that this version does not know. Raises SSEError for garbage."""
    now = datetime.now(UTC)
    try:
        if event.event == "token":
            token = msgspec.json.decode(event.data, type=_Token)
            piece = AnswerProgressed(effect=token.effect, offset=token.offset, text=token.text, step=token.step)
            return Heard(now, piece)
        if event.event == "result":
            return Heard(now, msgspec.json.decode(event.data, type=Ended))
        if event.event in KINDS:
            said = msgspec.json.decode(event.data, type=_Progress)
            fields = {name: getattr(said, name) for name in _Progress.__struct_fields__ if name != "at"}
            return Heard(said.at or now, RunProgressed(kind=event.event, **fields))  # pyright: ignore[reportArgumentType]
    except msgspec.DecodeError as problem:
        raise SSEError(str(problem)) from None
    return None
