"""`victoria cancel`: end a run now."""

from typing import Annotated

import anyio
import typer

from deploy.loading import Loaded
from deploy.victoria import Victoria
from gateway.options import Json, configured, with_victoria
from gateway.report import RunReport
from gateway.screen import answer, emit
from schemas.errors import CouldNotStart

WITHIN = 5.0
"""Seconds in which the stage `aggregate` ends a run, if a worker serves it."""


@configured
def cancel(
    loaded: Loaded,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The id that `run` and `publish` print.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it becomes the run's error.")] = "",
    as_json: Json = False,
) -> None:
    """End a run: its model calls are stopped, its open steps skipped; what was done already is its output.

    A run that has ended stays as it is.

    Example: victoria cancel 019ab2c3d4e5f60718293a4b5c6d7e8f
    """

    async def work(victoria: Victoria) -> RunReport:
        view = await victoria.view(run_id)
        if not view.finished:
            await victoria.cancel(run_id, reason)
        with anyio.move_on_after(WITHIN):
            while not view.finished:
                await anyio.sleep(0.02)
                view = await victoria.view(run_id)
        if view.finished:
            return RunReport.of(run_id, view.finished)
        raise CouldNotStart(
            "run.not_ended",
            f"Run {run_id} is to be cancelled, but no worker ends it.",
            "Start one: victoria worker aggregate.",
        )

    report = with_victoria(loaded, work)
    if as_json:
        emit(report)
    else:
        answer(f"{report.run_id} {report.status}")
