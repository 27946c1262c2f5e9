"""`victoria status`: where a run stands."""

from typing import Annotated

import msgspec
import typer

from consumers.run_view import RunView
from deploy.settings import Loaded
from deploy.wiring import Victoria
from gateway.options import Json, configured, with_victoria
from gateway.progress import MARKS
from gateway.report import RunReport
from gateway.screen import answer, emit, line
from gateway.serve import missing_stages
from schemas.errors import ErrorInfo


class Standing(msgspec.Struct, omit_defaults=True):
    """A run's view, and what keeps it from going on, if anything is known to. `error` is what it ended with, or what
    it waits for."""

    run: RunView
    waits_for: str = ""
    error: ErrorInfo | None = None


@configured
def status(
    loaded: Loaded,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The id that `run` and `publish` print.")],
    as_json: Json = False,
) -> None:
    """Show where a run stands, and its answer once there is one.

    Example: victoria status 019ab2c3d4e5f60718293a4b5c6d7e8f
    """

    async def work(victoria: Victoria) -> Standing:
        view = await victoria.view(run_id)
        if view.finished:
            return Standing(view, error=view.finished.error)
        reasons = list[str]()
        if missing := await missing_stages(victoria):
            reasons.append(f"no worker for {', '.join(missing)}: start them with `victoria up`")
        waiting = await victoria.waiting(run_id)
        if waiting:
            reasons.append(f"{waiting.error.message} {waiting.error.hint}")
        return Standing(view, "; ".join(reasons), waiting.error if waiting else None)

    found = with_victoria(loaded, work)
    if as_json:
        emit(found)
    else:
        _print(found)


def _print(found: Standing) -> None:
    view = found.run
    answer(f"{view.run_id} {view.status}\ngoal  {line(view.goal, less=6)}")
    for step in view.steps:
        answer(f"{MARKS.get(step.status, '·')} step {step.id} {step.status}: {line(step.title, less=30)}")
    if found.waits_for:
        answer(f"waits {found.waits_for}")
    if view.finished:
        answer("")
        RunReport.of(view.run_id, view.finished).print()
