"""What is known of a run right now, read from its keys."""

from datetime import datetime
from typing import cast

import msgspec

from consumers.run_state import STAGE, RunState
from schemas.envelope import Envelope, decoder
from schemas.errors import InvalidInput
from schemas.events import GoalSubmitted, RunFinished
from schemas.plan import RunStatus, StepStatus
from streams.connection import Client
from streams.keys import Keys


class StepView(msgspec.Struct, frozen=True):
    """One step of a run for people."""

    id: str
    title: str
    status: StepStatus


class RunView(msgspec.Struct, frozen=True):
    """A run for people: `queued` until its plan came, then `running` until it ended."""

    run_id: str
    status: RunStatus
    goal: str
    submitted_at: datetime
    steps: tuple[StepView, ...]
    finished: RunFinished | None


async def view(client: Client, keys: Keys, run_id: str) -> RunView:
    """The run's view. Raises InvalidInput with code `run.unknown`."""
    key = keys.run(keys.of_run(run_id), run_id)
    found = cast("list[bytes | None]", await client.hmget(key, ["submitted", STAGE]))
    submitted = _submitted(run_id, found[0])
    state = msgspec.json.decode(found[1], type=RunState) if found[1] else RunState()
    status: RunStatus = "queued"
    if state.finished:
        status = state.finished.status
    elif state.plan:
        status = "running"
    return RunView(
        run_id=run_id,
        status=status,
        goal=submitted.body.goal,
        submitted_at=submitted.at,
        steps=tuple(
            StepView(s.id, s.title, state.steps[s.id].status) for s in (state.plan.steps if state.plan else ())
        ),
        finished=state.finished,
    )


async def goal_of(client: Client, keys: Keys, run_id: str) -> GoalSubmitted:
    """What the run was asked for. Raises InvalidInput with code `run.unknown`."""
    found = await client.hget(keys.run(keys.of_run(run_id), run_id), "submitted")
    return _submitted(run_id, cast("bytes | None", found)).body


def _submitted(run_id: str, found: bytes | None) -> Envelope[GoalSubmitted]:
    if found is None:
        raise InvalidInput("run.unknown", f"There is no run {run_id[:80]!r}.", "`victoria tail intake` shows runs.")
    return cast("Envelope[GoalSubmitted]", decoder(GoalSubmitted)(found))
