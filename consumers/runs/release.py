"""Which steps of a run may begin: pure functions over its state."""

from collections.abc import Collection

from msgspec.structs import replace

from consumers.runs.end import counted
from consumers.runs.state import OPEN, STAGE, UNLOCKS, RunState, StepState
from schemas.errors import ErrorInfo
from schemas.events import DelegationRequested, Event, RunProgressed, StepReady
from schemas.plan import Plan, Step

AT_ONCE = 3
"""Steps of one run that may be under way at the same time."""


def release(state: RunState) -> tuple[RunState, list[Event]]:
    """Start every step whose dependencies are done, AT_ONCE at most; block those that can't run any more.

    Of those that vote no more are begun while the ones under way can decide, should they agree. While what is left is
    planned again, only steps that were begun before go on.
    """
    if state.plan is None:
        return state, []
    steps, events = dict(state.steps), list[Event]()
    for step in in_order(state.plan):
        now = steps[step.id]
        if now.status != "pending" or (state.replanning and now.progress is None):
            continue
        ends = {other: steps[other].status for other in step.depends_on}
        if _may_begin(step, list(ends.values())):
            running = [id_ for id_, s in steps.items() if s.status == "running"]
            if len(running) < AT_ONCE and not (step.how == "vote" and _enough(state, running)):
                steps[step.id] = replace(now, status="running", progress=None, reply="")
                events += _start(state, step, now)
        elif failed := _hopeless(step, ends):
            why = ErrorInfo("step.blocked", f"It needs step {failed!r}, which ended as {ends[failed]}.")
            steps[step.id] = StepState("blocked", error=why)
            events.append(ended(step.id, steps[step.id]))
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


def ended(step_id: str, step: StepState) -> RunProgressed:
    """Tell who follows the run how a step ended."""
    text = step.error.message if step.error else ""
    return RunProgressed(kind="task_end", stage=STAGE, step_id=step_id, status=step.status, text=text)


def _enough(state: RunState, running: Collection[str]) -> bool:
    """Whether those who are voting can decide without anybody else."""
    if not (state.plan and state.plan.quorum):
        return False
    voting = sum(step.how == "vote" and step.id in running for step in state.plan.steps)
    most = max((group.votes for group in counted(state)), default=0)
    return voting > 0 and most + voting >= state.plan.quorum


def _may_begin(step: Step, ends: list[str]) -> bool:
    if step.any_input and ends:
        return not any(end in OPEN for end in ends) and any(end in UNLOCKS for end in ends)
    return all(end in UNLOCKS for end in ends)


def _hopeless(step: Step, ends: dict[str, str]) -> str | None:
    """The step that keeps this one from ever beginning, if there is one."""
    failed = [other for other, end in ends.items() if end not in (*UNLOCKS, *OPEN)]
    if step.any_input and len(failed) < len(ends):
        return None
    return next(iter(failed), None)


def _start(state: RunState, step: Step, was: StepState) -> list[Event]:
    inputs = {other: s.output for other in step.depends_on if (s := state.steps[other]).status in UNLOCKS}
    event: Event
    if step.agent:
        event = DelegationRequested(
            step=step, goal=state.goal, project=state.project, context=state.context, inputs=inputs
        )
    else:
        event = StepReady(
            step=step,
            goal=state.goal,
            project=state.project,
            session=state.session,
            context=state.context,
            inputs=inputs,
            progress=was.progress,
            reply=was.reply,
        )
    if was.progress:
        return [event]  # it was said before that it began
    return [event, RunProgressed(kind="task_start", stage=STAGE, step_id=step.id, text=step.title)]
