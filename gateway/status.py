"""`victoria status`: where a run stands."""

from typing import Annotated

import msgspec
import typer

from consumers.run_view import RunView
from deploy.wiring import Victoria
from gateway.options import Json, Model, RedisUrl, Set, loaded_settings, with_victoria
from schemas.errors import ErrorInfo


class Waiting(msgspec.Struct, omit_defaults=True):
    """A run's view, and what keeps it from going on, if anything is known to."""

    run: RunView
    waits_for: str = ""
    error: ErrorInfo | None = None


def status(
    run_id: Annotated[str, typer.Argument(help="The id that `run` and `publish` print.")],
    as_json: Json = False,
    redis_url: RedisUrl = None,
    model: Model = None,
    more: Set = None,
) -> None:
    """Show where a run stands, and its answer once there is one.

    Example: victoria status 019ab2c3d4e5f60718293a4b5c6d7e8f
    """
    loaded = loaded_settings(redis_url, model, more)

    async def work(victoria: Victoria) -> Waiting:
        view = await victoria.view(run_id)
        if view.finished:
            return Waiting(view, error=view.finished.error)
        live = await victoria.live()
        absent = [stage for stage in victoria.stages if not live[stage]]
        hint = f"no worker for {', '.join(absent)}: start them with `victoria up`" if absent else ""
        return Waiting(view, hint)

    found = with_victoria(loaded, work)
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    view = found.run
    typer.echo(f"{view.run_id} {view.status}\ngoal: {view.goal}")
    for step in view.steps:
        typer.echo(f"step {step.id} {step.status}: {step.title}")
    if found.waits_for:
        typer.echo(f"waits: {found.waits_for}")
    if view.finished:
        typer.echo(f"method {view.finished.method}, model {view.finished.metadata.model}\n\n{view.finished.output}")
