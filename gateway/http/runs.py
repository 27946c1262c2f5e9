"""Runs over HTTP: submit, look, cancel."""

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from consumers.intake import goal_submitted
from deploy.people import require
from gateway.http.bodies import Answered, CancelRequest, Json, RunRequest, Taken, TaskView, exchanges, read
from gateway.http.door import Door
from gateway.standing import standing
from schemas.envelope import derived_id
from schemas.errors import InvalidInput
from schemas.events import GoalSubmitted
from schemas.plan import Limits
from streams.append import new_run_id

R = TypeVar("R")

KEY, DELEGATED_BY = "Idempotency-Key", "Victoria-Delegated-By"
CANCELLED_WITHIN = 5.0
"""Seconds in which the stage `aggregate` ends a run, if a worker serves it."""


class Runs:
    """The pages about runs."""

    def __init__(self, door: Door) -> None:
        self._door, self._victoria = door, door.victoria

    async def submit(self, request: Request) -> Response:
        """`POST /run`: 202 at once, or with async_mode=0 the answer when there is one."""
        body = await read(request, RunRequest)
        asynchronous = _asynchronous(request, body)
        goal, key = self._goal(request, body), _header(request, KEY, r"[\x20-\x7e]{1,255}")
        with self._door.at_work():
            limits = self._victoria.limits(body.max_tokens, seconds=body.deadline_seconds)
            task_id = await self._publish(goal, key, limits)
            if asynchronous:
                url = f"/run/status/{task_id}"
                return Json(Taken(task_id, url), 202, {"Location": url})
            end = await unless_gone(request, self._door.live.of(task_id))
        return Json(Answered.of(task_id, end, self._door.agent)) if end else Response(status_code=400)

    async def status(self, request: Request) -> Response:
        """`GET /run/status/{task_id}`: where the run stands."""
        return await self._report(request.path_params["task_id"])

    async def cancel(self, request: Request) -> Response:
        """`POST /run/{task_id}/cancel`: end it. Where it stands then; 202 if nobody has ended it yet."""
        task_id, body = request.path_params["task_id"], await read(request, CancelRequest)
        ended = (await self._victoria.view(task_id)).finished
        if not ended:
            await self._victoria.cancel(task_id, body.reason)
            with anyio.move_on_after(CANCELLED_WITHIN):
                ended = await self._door.live.of(task_id)
        return await self._report(task_id, 200 if ended else 202)

    async def _report(self, task_id: str, status: int = 200) -> Response:
        return Json(TaskView.of(await standing(self._victoria, task_id), self._door.agent), status)

    def _goal(self, request: Request, body: RunRequest) -> GoalSubmitted:
        """The checked goal; an unknown project is replaced by the main one."""
        goal = goal_submitted(
            body.goal,
            self._victoria.projects.resolve(body.project_context or ""),
            body.session_id or "",
            exchanges(body.chat_history or ()),
        )
        if body.strategy:
            require(self._victoria.settings, body.strategy, "")
        by = _header(request, DELEGATED_BY, r"[\w.-]{1,80}")
        return msgspec.structs.replace(goal, strategy=body.strategy or "", delegated_by=by)

    async def _publish(self, goal: GoalSubmitted, key: str, limits: Limits) -> str:
        """The id of the goal's run: with a key always the same one, published once. Raises InvalidInput
        `run.other_goal`."""
        run_id = derived_id(KEY, key) if key else new_run_id()
        if await self._victoria.submit([(run_id, goal)], limits) == ["known"]:
            before = await self._victoria.goal_of(run_id)
            if _asked(before) != _asked(goal):
                raise InvalidInput(
                    "run.other_goal",
                    f"Another goal was sent with the {KEY} {key[:80]!r}.",
                    "Send the same request again, or take a new key.",
                )
        return run_id


def _asked(goal: GoalSubmitted) -> tuple[Any, ...]:
    """What makes it another goal, whatever its limits are and whoever hands it over."""
    return goal.goal, goal.project, goal.session, goal.history, goal.strategy


def _asynchronous(request: Request, body: RunRequest) -> bool:
    asked = request.query_params.get("async_mode", body.async_mode)
    try:
        return True if asked is None else msgspec.convert(asked, bool, strict=False)
    except msgspec.ValidationError:
        raise InvalidInput("http.invalid", f"async_mode is {str(asked)[:80]!r}.", "Write 1 or 0.") from None


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
