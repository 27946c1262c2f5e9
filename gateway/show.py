"""`victoria show`: a run as a timeline, in the terminal, as a page, or as data."""

from pathlib import Path
from typing import Annotated

import typer

from consumers.runs.retold import retold
from consumers.runs.timeline import Timeline
from deploy.loading import Loaded
from deploy.projects import Projects
from deploy.wiring import still_topology
from gateway.options import Json, configured, with_victoria
from gateway.screen import OUT, emit, note
from gateway.tapes import file_of, tape_of
from gateway.timeline_page import page
from gateway.waterfall import waterfall
from schemas.errors import InvalidInput
from streams.connection import server_ms
from streams.tape import Tape


@configured
def show(
    loaded: Loaded,
    what: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, or a file that `victoria replay --save` has written.")
    ],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write it as one page, for any browser.")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--all", metavar="", help="All rows, also of long runs, and what only keeps the books.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a run as a timeline: its stages, steps, and calls of models and tools; for how long each waited and worked,
    its tokens and attempts, and the event that made it.

    Nothing is made up: what was not recorded is shown as unknown. A run that goes on is shown as far as it has come.

    Example: victoria show 019ab2c3d4e5f60718293a4b5c6d7e8f --html run.html
    """
    topology = still_topology(loaded.settings, Projects.from_settings(loaded.settings, loaded.root))
    if file := file_of(what):
        found = retold(Tape.load(file), topology)
    else:
        found = retold(
            tape_of(loaded, what), topology, with_victoria(loaded, lambda victoria: server_ms(victoria.client))
        )
    if html:
        _write(found, html)
    if as_json:
        emit(found)
    elif not html:
        for line in waterfall(found, OUT.width, whole=whole):
            OUT.print(line, soft_wrap=True)


def _write(found: Timeline, path: Path) -> None:
    try:
        path.write_text(page(found), encoding="utf-8")
    except OSError as problem:
        raise InvalidInput("page.unwritable", f"{path} can't be written: {problem.strerror}.", "") from problem
    note(f"✓ wrote {path} ({path.stat().st_size:,} bytes)")
