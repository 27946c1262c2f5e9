"""`victoria plan`: a run's plan, drawn."""

from typing import Annotated

import typer

from consumers.runs.view import PlanView
from deploy.loading import Loaded
from deploy.victoria import Victoria
from gateway.drawing import mermaid, tree
from gateway.options import Json, configured, with_victoria
from gateway.screen import OUT, answer, emit, note


@configured
def plan(
    loaded: Loaded,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The id that `run` and `publish` print.")],
    as_mermaid: Annotated[
        bool, typer.Option("--mermaid", metavar="", help="Print a Mermaid flowchart, as Markdown pages show it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Draw the plan of a run: who does what, what waits for what, and where each step stands.

    A step hangs under the last one it waits for; all of those are named beside it.

    Example: victoria plan 019ab2c3d4e5f60718293a4b5c6d7e8f
    """

    async def work(victoria: Victoria) -> PlanView:
        return await victoria.plan(run_id)

    found = with_victoria(loaded, work)
    if as_json:
        emit(found)
    elif as_mermaid:
        answer(mermaid(found))
    else:
        OUT.print(tree(found))
        for each in found.notes:
            note(each, "dim")
