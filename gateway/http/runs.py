"""Runs over HTTP: submit, look, cancel."""

import asyncio
import re
from collections.abc import Coroutine
from contextlib import suppress
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import anyio
import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from consumers.agents.http import task_id
from consumers.agents.waited import GRACE
from consumers.intake import goal_submitted
from deploy.people import require
from gateway.http.bodies import Answered, CancelRequest, Json, RunRequest, Taken, TaskView, exchanges, read
from gateway.http.callers import caller_of
from gateway.http.door import Door
from gateway.http.pages import Page, Parameter, Reply
from schemas.errors import InvalidInput, Overloaded
from schemas.events import GoalSubmitted, RunFinished
from schemas.plan import Limits
from streams.append import new_run_id
from streams.connection import TROUBLE, reachable

R = TypeVar("R")

KEY, DELEGATED_BY = "Idempotency-Key", "Victoria-Delegated-By"
KEYS, AGENTS = r"[\x20-\x7e]{1,255}", r"[\w.-]{1,80}"
ORCHESTRATED = "department_heads"
"""The strategy of `POST /orchestrate`, unless another is wanted."""
ASYNC = Parameter(
    "async_mode",
    "query",
    Literal["1", "0", "true", "false"],
    "1 answers at once, which is the default; 0 when the run has ended. It beats the body's.",
)
ONCE = Parameter(
    KEY,
    "header",
    Annotated[str, msgspec.Meta(pattern=r"^[!-~]([ -~]{0,253}[!-~])?$")],
    "The same key is the same run, however often it is sent.",
)
BY = Parameter(
    DELEGATED_BY,
    "header",
    Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,80}$")],
    "Which agent hands it over.",
)
CANCELLED_WITHIN = 5.0
"""Seconds in which the stage `aggregate` ends a run, if a worker serves it."""

_log: Any = structlog.get_logger()


class Order(NamedTuple):
    """A goal, its run's id, the caller's `key` from which that comes, if there is one, and what it may cost."""

    run_id: str
    goal: GoalSubmitted
    key: str
    limits: Limits


class Runs:
    """The pages about runs."""

    def __init__(self, door: Door) -> None:
        self._door, self._victoria = door, door.victoria
        self._found: set[tuple[str, str]] = set()

    @property
    def pages(self) -> list[Page]:
        """Their rows of the table."""
        said = {
            200: Reply("The run has ended: its answer.", Answered, links={"run_status": "knowledge/task_id"}),
            202: Reply(
                "The run goes on in the background.",
                Taken,
                headers={"Location": "Where it can be looked at."},
                links={"run_status": "task_id", "run_cancel": "task_id"},
            ),
        }
        submits: Any = {"scope": "publish", "body": RunRequest, "parameters": (ASYNC, ONCE, BY), "refusals": (409,)}
        return [
            Page(method="POST", path="/run", serve=self.run, summary="Run a goal", replies=said, tag="Runs", **submits),
            Page(
                method="POST",
                path="/orchestrate",
                serve=self.orchestrate,
                summary="Run a goal through the departments of experts",
                replies=said,
                tag="Runs",
                **submits,
            ),
            Page(
                method="GET",
                path="/run/status/{task_id}",
                serve=self.run_status,
                summary="Where a run stands, and its answer once there is one",
                replies={200: Reply("How it is.", TaskView)},
                tag="Runs",
            ),
            Page(
                method="POST",
                path="/run/{task_id}/cancel",
                serve=self.run_cancel,
                summary="End a run",
                replies={
                    200: Reply("It has ended, this way or another.", TaskView),
                    202: Reply("Nobody has ended it yet.", TaskView),
                },
                scope="publish",
                body=CancelRequest,
                tag="Runs",
            ),
        ]

    async def run(self, request: Request) -> Response:
        """`POST /run`: 202 at once, or with async_mode=0 the answer when there is one."""
        return await self._submit(request)

    async def orchestrate(self, request: Request) -> Response:
        """`POST /orchestrate`: the same, through departments of experts unless another strategy is wanted."""
        return await self._submit(request, ORCHESTRATED)

    async def _submit(self, request: Request, strategy: str = "") -> Response:
        with self._door.at_work():
            with self._door.metrics.taking():
                body = await read(request, RunRequest)
                asynchronous = _asynchronous(request, body)
                order = self._order(request, body, strategy, unattended=not asynchronous)
            if asynchronous:
                await self._publish(order)
                url = f"/run/status/{order.run_id}"
                return Json(Taken(order.run_id, url), 202, {"Location": url})
            end = await (self._delegated if order.goal.delegated_by else self._awaited)(request, order)
        return Json(Answered.of(order.run_id, end, self._door.agent)) if end else Response(status_code=400)

    async def run_status(self, request: Request) -> Response:
        """`GET /run/status/{task_id}`: where the run stands."""
        return Json(await self._view(request.path_params["task_id"]))

    async def run_cancel(self, request: Request) -> Response:
        """`POST /run/{task_id}/cancel`: end it. Where it stands, its words for who may read; 202 if nobody has yet."""
        task_id, body = request.path_params["task_id"], await read(request, CancelRequest)
        ended = (await self._victoria.view(task_id)).finished
        if not ended:
            await self._victoria.cancel(task_id, body.reason)
            with anyio.move_on_after(CANCELLED_WITHIN):
                ended = await self._door.live.of(task_id)
        view = await self._view(task_id)
        if "read" not in caller_of(request).scopes:
            view = msgspec.structs.replace(view, output=None, knowledge=None, steps=(), waits_for="", waiting=None)
        return Json(view, 200 if ended else 202)

    async def _view(self, task_id: str) -> TaskView:
        return TaskView.of(await self._door.standings.of(task_id), self._door.agent)

    def _order(self, request: Request, body: RunRequest, strategy: str, *, unattended: bool) -> Order:
        goal, key = self._goal(request, body, strategy), _header(request, KEY, KEYS)
        run_id = task_id(key, caller_of(request).name) if key else new_run_id()
        limits = self._victoria.limits(
            _whole(body.max_tokens),
            seconds=body.deadline_seconds,
            unattended=unattended if body.unattended is None else body.unattended,
        )
        return Order(run_id, goal, key, limits)

    def _goal(self, request: Request, body: RunRequest, strategy: str) -> GoalSubmitted:
        """The checked goal, by this strategy unless another is wanted; an unknown project is replaced by the main
        one."""
        goal = goal_submitted(
            body.goal,
            self._victoria.projects.resolve(body.project_context or ""),
            body.session_id or "",
            exchanges(body.chat_history or ()),
        )
        self._require(body.strategy or "", body.expert or "")
        by = _header(request, DELEGATED_BY, AGENTS)
        wanted = {"strategy": body.strategy or strategy, "expert": body.expert or ""}
        known = {"asker": caller_of(request).name, "cache": "renew" if body.fresh else "use"}
        return msgspec.structs.replace(goal, **wanted, **known, delegated_by=by)

    def _require(self, strategy: str, expert: str) -> None:
        """See that these are there. To look takes longer than all else, so what was found is remembered."""
        if (strategy or expert) and (strategy, expert) not in self._found:
            require(self._victoria.settings, strategy, expert)
            self._found.add((strategy, expert))

    async def _awaited(self, request: Request, order: Order) -> RunFinished | None:
        """The run's end; None if the client goes away first."""
        await self._publish(order)
        return await unless_gone(request, self._door.live.of(order.run_id))

    async def _delegated(self, request: Request, order: Order) -> RunFinished | None:
        """The same of another agent's work, which goes on only while somebody waits for it."""
        waited = self._victoria.waited
        with reachable(self._victoria.url):
            async with waited.waiting(order.run_id):
                try:
                    end = await self._awaited(request, order)
                except (InvalidInput, Overloaded):  # it is not done for this request
                    await waited.forget(order.run_id)
                    raise
            with suppress(*TROUBLE):
                await (waited.forget(order.run_id) if end else waited.sign(order.run_id, GRACE))
        return end

    async def _publish(self, order: Order) -> None:
        """Publish a goal, once for each key. Raises InvalidInput `run.other_goal`."""
        run_id, goal, key, limits = order
        with self._door.metrics.taking():
            (published,) = await self._victoria.submit([(run_id, goal)], limits)
            if published == "known" and _asked(await self._victoria.goal_of(run_id)) != _asked(goal):
                raise InvalidInput(
                    "run.other_goal",
                    f"Another goal was sent with the {KEY} {key[:80]!r}.",
                    "Send the same request again, or take a new key.",
                )
        if published != "known":
            self._door.metrics.submitted.inc()
        text = {"goal": goal.goal} if self._victoria.settings.log_goals else {}
        _log.info("run.submitted", run=run_id, published=published, **text)


def _asked(goal: GoalSubmitted) -> tuple[Any, ...]:
    """What makes it another goal, whatever its limits are and whoever hands it over."""
    return goal.goal, goal.project, goal.session, goal.history, goal.strategy, goal.expert


def _asynchronous(request: Request, body: RunRequest) -> bool:
    asked = request.query_params.get("async_mode", body.async_mode)
    try:
        return True if asked is None else msgspec.convert(asked, bool, strict=False)
    except msgspec.ValidationError:
        raise InvalidInput("http.invalid", f"async_mode is {str(asked)[:80]!r}.", "Write 1 or 0.") from None


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _header(request: Request, name: str, pattern: str) -> str:
    """A header's value, "" where it isn't sent."""
    value = request.headers.get(name)
    if value is not None and not re.fullmatch(pattern, value, re.ASCII):
        raise InvalidInput("http.invalid", f"The header {name} is {value[:80]!r}.", f"It must match {pattern}.")
    return value or ""


async def unless_gone(request: Request, work: Coroutine[Any, Any, R]) -> R | None:
    """What `work` gives; None if the client goes away first."""
    working, watching = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        watching.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
