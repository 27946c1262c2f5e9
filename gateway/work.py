"""`victoria worker` and `victoria up`: stages at work, in this process or one process each."""

from typing import Annotated

import typer

from consumers.postgres.projector import NAME
from deploy.settings import Loaded
from deploy.wiring import Victoria, catalogue_topology, foreground
from gateway.history import kept
from gateway.options import configured, given_environment, with_victoria
from gateway.project import project
from gateway.serve import serve
from gateway.supervise import supervise
from schemas.errors import InvalidInput


def _completed(incomplete: str) -> list[str]:
    names = [*(stage.name for stage in catalogue_topology().stages), NAME]
    return [name for name in names if name.startswith(incomplete)]


@configured
def worker(
    loaded: Loaded,
    stages: Annotated[
        list[str],
        typer.Argument(
            metavar="STAGE", help="Stages such as understand, plan, infer.local; or project.", autocompletion=_completed
        ),
    ],
    parent: Annotated[int, typer.Option(hidden=True, help="The process to end with.")] = 0,
) -> None:
    """Run one or more stages in this process until SIGTERM or Ctrl-C.

    Any number of processes may run the same stage; they share its work. `project` writes what all streams say to the
    database, where it stays: one does at a time, and others stand by.

    Example: victoria worker step-execute
    """

    async def work(victoria: Victoria) -> None:
        await serve(victoria, victoria.require_stages(stages), parent)

    if NAME not in stages:
        with_victoria(loaded, work)
    elif set(stages) == {NAME}:
        project(loaded, parent)
    else:
        raise InvalidInput("stage.alone", f"{NAME} is a process of its own.", f"Run `victoria worker {NAME}` beside.")


@configured
def up(
    loaded: Loaded,
    processes: Annotated[bool, typer.Option("--processes", metavar="", help="One process for each stage.")] = False,
) -> None:
    """Run all stages until SIGTERM or Ctrl-C, in this process or one process each, and keep history in the database.

    Example: victoria up --processes
    """

    async def work(victoria: Victoria) -> None:
        if processes:
            stages = foreground(await victoria.needed()) + [NAME] * loaded.settings.history
            await supervise(stages, given_environment(loaded), loaded.settings.grace)
        else:
            async with kept(victoria):
                await serve(victoria, await victoria.needed())

    with_victoria(loaded, work)
