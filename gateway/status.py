"""`victoria status`: where a run stands."""

from typing import Annotated

import typer

from deploy.loading import Loaded
from gateway.options import Json, configured, with_victoria
from gateway.progress import MARKS
from gateway.report import RunReport
from gateway.screen import answer, emit, line, note
from gateway.standing import Standing, Standings


@configured
def status(
    loaded: Loaded,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The id that `run` and `publish` print.")],
    as_json: Json = False,
) -> None:
    """Show where a run stands, and its answer once there is one.

    Example: victoria status 019ab2c3d4e5f60718293a4b5c6d7e8f
    """

    found = with_victoria(loaded, lambda victoria: Standings(victoria).of(run_id))
    if as_json:
        emit(found)
    else:
        _print(found)


def _print(found: Standing) -> None:
    view = found.run
    answer(f"{view.run_id} {found.status}\ngoal  {line(view.goal, less=6)}")
    for step in view.steps:
        answer(f"{MARKS.get(step.status, '·')} step {step.id} {step.status}: {line(step.title, less=30)}")
    if found.waits_for:
        answer(f"waits {found.waits_for}")
    if view.finished:
        answer("")
        RunReport.of(view.run_id, view.finished).print()
        note(f"`victoria show {view.run_id}` shows how it went", "dim")
