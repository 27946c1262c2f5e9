"""`victoria run`: start what is missing, publish one goal, show its way through the stages, print the answer."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import anyio
import typer

from consumers.intake import goal_submitted
from deploy.loading import Loaded
from deploy.victoria import Victoria
from gateway.complain import Interrupted
from gateway.interrupt import interruptible
from gateway.options import (
    Calls,
    Deadline,
    Expert,
    Fresh,
    Json,
    Strategy,
    Tokens,
    Unattended,
    configured,
    with_victoria,
)
from gateway.progress import Progress
from gateway.report import RunReport
from gateway.screen import ERR, emit
from gateway.serve import served
from gateway.submit import Accepted, Results, accepted
from schemas.envelope import Envelope
from schemas.errors import NotReachable, VictoriaError
from schemas.events import AnswerProgressed, RunFinished, RunProgressed
from schemas.plan import Limits


class RunTimeout(VictoriaError):
    """A run took longer than its caller wanted to wait."""


@configured
def run(
    loaded: Loaded,
    goal: Annotated[str, typer.Argument(metavar="GOAL", help="What you want, in plain words and any language.")],
    project: Annotated[str, typer.Option(metavar="NAME", help="An allowed project; by default the main one.")] = "",
    session: Annotated[str, typer.Option(metavar="ID", help="A conversation this goal belongs to.")] = "",
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="How long to wait for the answer; the run is kept.")
    ] = None,
    strategy: Strategy = "",
    expert: Expert = "",
    tokens: Tokens = None,
    calls: Calls = None,
    deadline: Deadline = None,
    unattended: Unattended = False,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Run a goal: start what is missing, show each stage live, print the answer.

    Example: victoria run "List the files in the folder schemas"
    """
    goal_submitted(goal)  # before anything is started

    async def work(victoria: Victoria) -> RunReport:
        victoria.engines.check(await victoria.engines.wanted())
        taken = accepted(victoria, goal, project, session, strategy, expert, "renew" if fresh else "use")
        limits = partial(victoria.limits, tokens, calls, deadline, unattended=unattended)
        with Progress() as progress:
            return RunReport.of(taken.run_id, await run_goal(victoria, taken, limits, progress, timeout))

    report = with_victoria(loaded, work)
    if as_json:
        emit(report)
    else:
        report.print()
    if report.status != "completed":
        raise typer.Exit(1)


async def run_goal(
    victoria: Victoria, goal: Accepted, limits: Callable[[], Limits], progress: Progress, seconds: float | None
) -> RunFinished:
    """Publish a goal and follow its run to the end. `limits` is called when that begins. Raises RunTimeout after
    `seconds`, Interrupted on Ctrl-C."""
    look = f"`victoria status {goal.run_id}` shows it; `victoria up` lets it go on."
    published = False

    def interrupted() -> Interrupted:
        if not published:
            return Interrupted("interrupted", "Interrupted before anything was published.")
        return Interrupted("interrupted", f"Interrupted; run {goal.run_id} is kept.", look)

    victoria.engines.progress = progress.download
    async with interruptible(interrupted):
        results = await Results.from_now(victoria, [goal.run_id] if ERR.is_terminal else [])
        async with served(victoria):
            await victoria.require_model()
            await victoria.submit([(goal.run_id, goal.goal)], limits())
            published = True
            progress.waiting("understand")
            try:
                with anyio.move_on_after(seconds):
                    return await followed(results, goal.run_id, progress)
            except NotReachable as problem:
                raise NotReachable(
                    problem.code, problem.message, f"{problem.hint} The run is kept there: {look}"
                ) from None
    raise RunTimeout("run.timeout", f"Run {goal.run_id} has not ended after {seconds:g} s; it is kept.", look)


async def followed(results: Results, run_id: str, progress: Progress) -> RunFinished:
    """Show a run's progress until its end."""
    async for seen in results.of([run_id]):
        match seen.envelope:
            case Envelope(body=RunFinished() as end):
                return end
            case Envelope(body=RunProgressed() as event, at=at):
                progress.of(event, at)
            case Envelope(body=AnswerProgressed() as piece):
                progress.heard(piece)
            case _:
                pass
    raise AssertionError("results end with the run")
