"""A run's state and how events move it on: pure functions, so that every path can be tested without a server."""

from datetime import datetime
from typing import Literal

import msgspec
from msgspec.structs import replace

from consumers.plan_check import checked
from schemas.errors import ErrorInfo
from schemas.events import (
    CancelRequested,
    Event,
    ExchangeCompleted,
    Metadata,
    PlanProposed,
    RunFinished,
    RunProgressed,
    StageFailed,
    StageTime,
    StepFinished,
    StepReady,
    StepSummary,
)
from schemas.plan import Moment, Plan, Spent, Step, StepStatus, Trust, Usage

STAGE = "aggregate"
AT_ONCE = 3
"""Steps of one run that may be under way at the same time."""
UNLOCKS = ("ok", "partial")
"""Statuses that let dependants go on."""
OPEN = ("pending", "running", "waiting")
"""Statuses of steps that have not ended."""


class StepState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one step stands, and what it left. `seconds` is wall time from its release to its end."""

    status: StepStatus = "pending"
    output: str = ""
    method: Literal["rules", "simple", "react"] = "rules"
    tools: tuple[str, ...] = ()
    error: ErrorInfo | None = None
    usage: Usage = Usage()
    seconds: float = 0.0


class RunState(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that aggregate knows of a run. `planned_at` is when its plan arrived, `begun_at` when the
    first of its steps that ended did; `finished` is its one end."""

    goal: str = ""
    project: str = ""
    session: str = ""
    plan: Plan | None = None
    steps: dict[str, StepState] = {}
    spent: tuple[Spent, ...] = ()
    planned_at: Moment | None = None
    begun_at: Moment | None = None
    trust: Trust = "operator"
    finished: RunFinished | None = None


def begin(event: PlanProposed, now: datetime) -> RunState:
    """The state of a run whose plan has come; checked once more, since anybody may write to a stream."""
    plan = checked(event.plan)
    return RunState(
        goal=event.restated,
        project=event.project,
        session=event.session,
        plan=plan,
        steps={step.id: StepState() for step in plan.steps},
        spent=event.spent,
        planned_at=now,
    )


def record(state: RunState, event: StepFinished, now: datetime) -> tuple[RunState, list[Event]]:
    """A step's end written down; nothing if that step isn't under way (it ended before, or there is none)."""
    before = state.steps.get(event.step_id)
    if before is None or before.status != "running":
        return state, []
    spent, status, error = event.spent, event.status, event.error
    if status in OPEN:
        status, error = "failed", error or ErrorInfo("step.status", f"It was said to have ended as {event.status}.")
    after = StepState(
        status=status,
        output=event.output,
        method=event.method,
        tools=event.tools,
        error=error,
        usage=spent.usage if spent else Usage(),
        seconds=(now - spent.at).total_seconds() if spent else 0.0,
    )
    ended = RunProgressed(
        kind="task_end",
        stage=STAGE,
        step_id=event.step_id,
        status=status,
        text=error.message if error else "",
    )
    begun = state.begun_at or now if spent is None else min(spent.at, state.begun_at or now)
    return replace(state, steps={**state.steps, event.step_id: after}, begun_at=begun), [ended]


def release(state: RunState) -> tuple[RunState, list[Event]]:
    """Start every step whose dependencies are done, AT_ONCE at most; block those that can't run any more."""
    if state.plan is None:
        return state, []
    steps, events = dict(state.steps), list[Event]()
    for step in in_order(state.plan):
        if steps[step.id].status != "pending":
            continue
        needed = [steps[other].status for other in step.depends_on]
        if all(status in UNLOCKS for status in needed):
            if sum(s.status == "running" for s in steps.values()) < AT_ONCE:
                steps[step.id] = StepState("running")
                events += _start(state, step)
        elif failed := next((o for o in step.depends_on if steps[o].status not in (*UNLOCKS, *OPEN)), None):
            why = ErrorInfo("step.blocked", f"It needs step {failed!r}, which ended as {steps[failed].status}.")
            steps[step.id] = StepState("blocked", error=why)
            events.append(
                RunProgressed(kind="task_end", stage=STAGE, step_id=step.id, status="blocked", text=why.message)
            )
    return replace(state, steps=steps), events


def in_order(plan: Plan) -> list[Step]:
    """The plan's steps, each after all it depends on, otherwise in plan order. The plan must be checked."""
    done: dict[str, Step] = {}
    open_steps = list(plan.steps)
    while open_steps:
        step = next(s for s in open_steps if all(other in done for other in s.depends_on))
        open_steps.remove(step)
        done[step.id] = step
    return list(done.values())


def _start(state: RunState, step: Step) -> list[Event]:
    plan = state.plan
    ready = StepReady(
        step=step,
        goal=state.goal,
        strategy=plan.strategy if plan else "rules",
        project=state.project,
        inputs={other: state.steps[other].output for other in step.depends_on},
    )
    return [ready, RunProgressed(kind="task_start", stage=STAGE, step_id=step.id, text=step.title)]


def is_over(state: RunState) -> bool:
    """Whether every step has its final status."""
    return all(step.status not in OPEN for step in state.steps.values())


def answers(state: RunState) -> list[tuple[Step, str]]:
    """Steps that have something to say and their outputs, in plan order."""
    steps = state.plan.steps if state.plan else ()
    return [(s, state.steps[s.id].output) for s in steps if state.steps[s.id].status in UNLOCKS]


def concatenated(state: RunState, each: int | None = None) -> str:
    """All answers, of each at most `each` characters, in plan order, under their steps' titles if there are several."""
    found = answers(state)
    if len(found) == 1:
        return found[0][1][:each]
    return "\n\n".join(f"## {step.title}\n\n{output[:each]}" for step, output in found)


def finish(state: RunState, output: str, fused: Usage, now: datetime) -> RunState:
    """The run's one end, from its steps."""
    done = [step for step in state.steps.values() if step.status in UNLOCKS]
    error = None
    if not done:
        error = next((step.error for step in state.steps.values() if step.error), None) or ErrorInfo(
            "plan.empty",
            "; ".join(state.plan.notes) if state.plan and state.plan.notes else "The plan has no steps.",
            "Say the goal in other words.",
        )
    return _ended(state, "completed" if done else "failed", output, error, fused, now)


def fail(state: RunState, event: StageFailed, now: datetime) -> RunState:
    """The run's one end when a stage gave up on it; what is there already is its output, what isn't is skipped."""
    return _ended(_skipped(state), "failed", concatenated(state), event.error, Usage(), now)


def cancel(state: RunState, event: CancelRequested, now: datetime) -> RunState:
    """The run's one end when somebody wants it; what is there already is its output, what isn't is skipped."""
    error = ErrorInfo("run.cancelled", event.reason or "The run was cancelled.")
    return _ended(_skipped(state), "cancelled", concatenated(state), error, Usage(), now)


def exchange(state: RunState) -> ExchangeCompleted | None:
    """What the session hears of a run's end, if the run has one and belongs to one."""
    end = state.finished
    if end is None or not state.session:
        return None
    return ExchangeCompleted(session=state.session, goal=state.goal, output=end.output, status=end.status)


def _skipped(state: RunState) -> RunState:
    steps = {id_: replace(s, status="skipped") if s.status in OPEN else s for id_, s in state.steps.items()}
    return replace(state, steps=steps)


def _ended(
    state: RunState,
    status: Literal["completed", "failed", "cancelled"],
    output: str,
    error: ErrorInfo | None,
    fused: Usage,
    now: datetime,
) -> RunState:
    steps = list(state.steps.values())
    usage = sum((s.usage for s in (*state.spent, *steps)), fused)
    done = [step for step in steps if step.status in UNLOCKS]
    method = next((m for m in ("react", "simple") if any(step.method == m for step in done or steps)), "rules")
    tools = any(step.tools for step in done)
    summaries = tuple(
        StepSummary(s.id, s.title, state.steps[s.id].status, state.steps[s.id].tools, state.steps[s.id].error)
        for s in (state.plan.steps if state.plan else ())
    )
    started = state.spent[0].at if state.spent else now
    finished = RunFinished(
        status=status,
        output=output or (f"{error.message} {error.hint}".strip() if error else ""),
        method="react" if method == "react" else "simple" if method == "simple" else "rules",
        metadata=Metadata(
            model=usage.model if usage.calls else "none",
            source="model" if method != "rules" else "tool" if tools else "rules",
            delegated_to=None,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
            seconds=_seconds(started, now),
            steps=summaries,
            notes=state.plan.notes if state.plan else (),
            node=usage.node,
            tokens_cached=usage.cached,
            calls=usage.calls,
        ),
        stages=_stage_times(state, fused, now),
        error=error,
    )
    return replace(state, finished=finished)


def _stage_times(state: RunState, fused: Usage, now: datetime) -> tuple[StageTime, ...]:
    """Each stage from its event's arrival to the next one's; steps side by side are added up."""
    arrivals = [*(spent.at for spent in state.spent), state.planned_at or now]
    times = [
        StageTime(spent.stage, _seconds(spent.at, following), usage=spent.usage)
        for spent, following in zip(state.spent, arrivals[1:], strict=False)
    ]
    ran = [step for step in state.steps.values() if step.status not in ("pending", "blocked", "skipped")]
    if ran:
        usage = sum((step.usage for step in ran), Usage())
        times.append(StageTime("step-execute", round(sum(s.seconds for s in ran), 3), len(ran), usage))
    if state.planned_at:
        times.append(StageTime(STAGE, _seconds(state.planned_at, state.begun_at or now), len(ran) + 1, usage=fused))
    return tuple(times)


def _seconds(start: datetime, end: datetime) -> float:
    return round((end - start).total_seconds(), 3)
