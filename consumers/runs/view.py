"""What is known of a run right now, read from its keys."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

import msgspec

from consumers.runs.release import in_order
from consumers.runs.state import STAGE, Asking, RunState, StepState, waiting
from schemas.envelope import Envelope, decoder, husk
from schemas.errors import ErrorInfo, InvalidInput
from schemas.events import GoalSubmitted, HypothesisRaised, RunFinished
from schemas.plan import How, Plan, RunStatus, Step, StepStatus
from streams.append import ENTERED, SUBMITTED, first_id
from streams.asking import Waiting
from streams.connection import Client
from streams.keys import Keys
from streams.ranges import FIRST as NONE
from streams.ranges import EntryId

FIELDS = (SUBMITTED, STAGE)
"""What a run's view is made of."""


class StepView(msgspec.Struct, frozen=True):
    """One step of a run for people."""

    id: str
    title: str
    status: StepStatus


class RunView(msgspec.Struct, frozen=True):
    """A run for people: `queued` until its plan came, then `running` until it ended. `questions` wait for somebody's
    answer."""

    run_id: str
    status: RunStatus
    goal: str
    submitted_at: datetime
    steps: tuple[StepView, ...]
    questions: tuple[Asking, ...]
    finished: RunFinished | None


class Stored(NamedTuple):
    """What the server has of a run: the fields of its view, its first entry's id, and why it waits; and which entry was
    the last that was given to the stage which reads that."""

    run_id: str
    fields: "Sequence[bytes | None]"
    entered: "bytes | None"
    reason: "bytes | None"
    last: EntryId

    @property
    def given(self) -> bool | None:
        """Whether the run was given to a stage; None for one without such an id: a fork, or of an older version."""
        return None if self.entered is None else EntryId.of(self.entered) <= self.last

    @property
    def view(self) -> RunView:
        """The run's view. Raises InvalidInput with code `run.unknown` or `run.hypothesis`."""
        return _view(self.run_id, *_decoded(self.run_id, self.fields))

    @property
    def waiting(self) -> Waiting | None:
        """Why the run does not go on, if it waits for a model, or for an earlier turn of its session."""
        return msgspec.json.decode(self.reason, type=Waiting) if self.reason else None


class PlannedStep(msgspec.Struct, frozen=True):
    """One step of a plan, and where it stands. `expert` and `agent` are who has it now, `seconds` what it took."""

    id: str
    title: str
    how: How
    status: StepStatus
    expert: str
    agent: str
    depends_on: tuple[str, ...]
    any_input: bool
    inner: bool
    seconds: float
    error: ErrorInfo | None


class PlanView(msgspec.Struct, frozen=True):
    """A run's plan for people, each step after those it needs. Without `strategy` there is none yet; `revision` counts
    how often it was changed."""

    run_id: str
    status: RunStatus
    goal: str
    strategy: str
    aggregate: bool
    quorum: int
    revision: int
    notes: tuple[str, ...]
    steps: tuple[PlannedStep, ...]


async def view(client: Client, keys: Keys, run_id: str) -> RunView:
    """The run's view. Raises InvalidInput with code `run.unknown` or `run.hypothesis`."""
    return _view(run_id, *await _read(client, keys, run_id))


async def stored(
    client: Client, keys: Keys, run_ids: Sequence[str], stream: str, group: str
) -> list[Stored | Exception]:
    """What there is of some runs, whose first events come to a group on a stream, asked for at once; an error for one
    whose keys are something else. Raises redis errors."""
    partitions = sorted({keys.of_run(run_id) for run_id in run_ids})
    pipeline: Any = client.pipeline(transaction=False)
    for run_id in run_ids:
        pipeline.hmget(keys.run(keys.of_run(run_id), run_id), (*FIELDS, ENTERED))
        pipeline.get(keys.waiting(run_id))
    for partition in partitions:  # after the runs: what they show has happened before
        pipeline.xinfo_groups(keys.stream(partition, stream))
    replies = await pipeline.execute(raise_on_error=False)
    count = 2 * len(run_ids)
    last = {p: _last_given(reply, group) for p, reply in zip(partitions, replies[count:], strict=True)}
    found: list[Stored | Exception] = []
    for run_id, fields, reason in zip(run_ids, replies[:count:2], replies[1:count:2], strict=True):
        problem = next((each for each in (fields, reason) if isinstance(each, Exception)), None)
        found.append(problem or Stored(run_id, fields[:-1], fields[-1], reason, last[keys.of_run(run_id)]))
    return found


def _last_given(groups: Any, group: str) -> EntryId:
    """The last entry that was given to a group; the first id of all where there is none."""
    found = () if isinstance(groups, Exception) else groups
    return next((EntryId.of(each["last-delivered-id"]) for each in found if each["name"] == group.encode()), NONE)


async def plan_view(client: Client, keys: Keys, run_id: str) -> PlanView:
    """The plan of a run, as it is now. Raises InvalidInput with code `run.unknown` or `run.hypothesis`."""
    submitted, state = await _read(client, keys, run_id)
    plan = state.plan or Plan("")
    return PlanView(
        run_id=run_id,
        status=status_of(state),
        goal=state.goal or submitted.body.goal,
        strategy=plan.strategy,
        aggregate=plan.aggregate,
        quorum=plan.quorum,
        revision=state.revision,
        notes=(*plan.notes, *state.notes),
        steps=tuple(_planned(step, state.steps[step.id]) for step in in_order(plan)),
    )


def _planned(step: Step, now: StepState) -> PlannedStep:
    return PlannedStep(
        id=step.id,
        title=step.title,
        how=step.how,
        status=now.status,
        expert=now.expert or step.expert,
        agent=now.agent or step.agent,
        depends_on=step.depends_on,
        any_input=step.any_input,
        inner=step.inner,
        seconds=round(now.seconds, 3),
        error=now.error,
    )


async def ends(client: Client, keys: Keys, run_ids: Sequence[str]) -> dict[str, RunFinished | None]:
    """The ends of those of these runs that are known, None for one that has not ended."""
    pipeline: Any = client.pipeline(transaction=False)
    for run_id in run_ids:
        pipeline.hmget(keys.run(keys.of_run(run_id), run_id), FIELDS)
    found = cast("list[list[bytes | None]]", await pipeline.execute() if run_ids else [])
    return {
        run_id: msgspec.json.decode(state, type=RunState).finished if state else None
        for run_id, (submitted, state) in zip(run_ids, found, strict=True)
        if submitted
    }


async def goal_of(client: Client, keys: Keys, run_id: str) -> GoalSubmitted:
    """What the run was asked for. Raises InvalidInput with code `run.unknown` or `run.hypothesis`."""
    found = await client.hget(keys.run(keys.of_run(run_id), run_id), SUBMITTED)
    return _submitted(run_id, cast("bytes | None", found)).body


def _submitted(run_id: str, found: bytes | None) -> Envelope[GoalSubmitted]:
    if found is None:
        raise InvalidInput("run.unknown", f"There is no run {run_id[:80]!r}.", "`victoria tail intake` shows runs.")
    try:
        return cast("Envelope[GoalSubmitted]", decoder(GoalSubmitted)(found))
    except InvalidInput:
        said = husk(found)
        if said and said.id == first_id(run_id, HypothesisRaised):
            hint = f"`victoria hypotheses show {run_id}` shows where it stands."
            raise InvalidInput("run.hypothesis", f"{run_id!r} is a hypothesis, and no run.", hint) from None
        raise


async def _read(client: Client, keys: Keys, run_id: str) -> tuple[Envelope[GoalSubmitted], RunState]:
    found = await client.hmget(keys.run(keys.of_run(run_id), run_id), list(FIELDS))
    return _decoded(run_id, cast("list[bytes | None]", found))


def _decoded(run_id: str, fields: Sequence[bytes | None]) -> tuple[Envelope[GoalSubmitted], RunState]:
    """A run's goal as it was submitted, and its state."""
    submitted, state = fields
    decoded = msgspec.json.decode(state, type=RunState) if state else RunState()
    return _submitted(run_id, submitted), decoded


def _view(run_id: str, submitted: Envelope[GoalSubmitted], state: RunState) -> RunView:
    return RunView(
        run_id=run_id,
        status=status_of(state),
        goal=submitted.body.goal,
        submitted_at=submitted.at,
        steps=tuple(
            StepView(s.id, s.title, state.steps[s.id].status) for s in (state.plan.steps if state.plan else ())
        ),
        questions=tuple(asking for _, asking in waiting(state)),
        finished=state.finished,
    )


def status_of(state: RunState) -> RunStatus:
    """A run's status: `queued` until its plan came."""
    if state.finished:
        return state.finished.status
    if any(step.status == "waiting" for step in state.steps.values()):
        return "running" if any(step.status == "running" for step in state.steps.values()) else "waiting"
    return "running" if state.plan else "queued"
