"""`victoria fork`: a new run that shares another one's past up to an event, and goes on from there."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from consumers.runs.fork import Fork, forked, publish
from deploy.loading import Loaded
from deploy.victoria import Victoria
from gateway.complain import Interrupted
from gateway.interrupt import interruptible
from gateway.options import Json, configured, with_victoria
from gateway.progress import Progress
from gateway.report import RunReport
from gateway.run import followed
from gateway.screen import ERR, emit, note
from gateway.serve import served
from gateway.submit import Results
from gateway.tapes import tape_of
from schemas.envelope import EVENT_BYTES, UNREADABLE, too_large
from schemas.errors import InvalidInput
from streams.append import new_run_id
from streams.connection import reachable


@configured
def fork(
    loaded: Loaded,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run whose past is shared.")],
    at: Annotated[
        str,
        typer.Option(
            "--at", metavar="EVENT", help="The event to begin with; `victoria tail --run RUN -r start --json`."
        ),
    ],
    edit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A JSON object: fields of the event that are to be others.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Begin a new run in the middle of another, with what that had come to by then, and follow it to its end.

    The other run stays as it is. What the new one asks and does is asked and done anew; --model names the model it is
    done with. It is no turn of a session, and its limits count from now.

    Example: victoria fork 019ab2c3d4e5f60718293a4b5c6d7e8f --at 5d41402abc4b
    """
    changed = _edit(edit) if edit else None
    model = loaded.settings.model if loaded.origins["model"].startswith("flag") else ""

    tape = tape_of(loaded, run_id)

    async def work(victoria: Victoria) -> RunReport:
        begun = await forked(tape, victoria.topology, at, new_run_id(), changed, model)
        with Progress() as progress:
            return await _run(victoria, begun, progress)

    report = with_victoria(loaded, work)
    if as_json:
        emit({"forked_from": run_id, "at": at, "run": report})
    else:
        report.print()
    if report.status != "completed":
        raise typer.Exit(1)


async def _run(victoria: Victoria, begun: Fork, progress: Progress) -> RunReport:
    look = f"`victoria status {begun.run}` shows it; `victoria up` lets it go on."
    async with interruptible(lambda: Interrupted("interrupted", f"Interrupted; run {begun.run} is kept.", look)):
        results = await Results.from_now(victoria, [begun.run] if ERR.is_terminal else [])
        async with served(victoria):
            with reachable(victoria.url):
                await publish(begun, victoria.client, victoria.keys, victoria.topology)
            note(f"run {begun.run} shares {len(begun.past)} events with {begun.origin.run}", "dim")
            return RunReport.of(begun.run, await followed(results, begun.run, progress))


def _edit(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(EVENT_BYTES + 1)
        if len(text) > EVENT_BYTES:
            raise too_large(str(path), len(text))
        return msgspec.json.decode(text, type=dict[str, Any])
    except OSError as problem:
        raise InvalidInput("edit.unreadable", f"{path} can't be read: {problem.strerror}.", "") from problem
    except UNREADABLE as problem:
        raise InvalidInput(
            "edit.malformed", f"{path} is no JSON object: {problem}", 'As in {"goal": "..."}'
        ) from problem
