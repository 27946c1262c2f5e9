"""`victoria worker` and `victoria up`: stages at work, in this process or one process each."""

from typing import Annotated

import typer

from consumers.postgres.projector import NAME as PROJECT
from consumers.tasks.worker import NAME as TASKS
from deploy.loading import Loaded
from deploy.victoria import Victoria, foreground
from deploy.wiring import catalogue_topology
from gateway.figures import MetricsPort, at_port, with_figures
from gateway.history import kept
from gateway.options import configured, given_environment, with_victoria
from gateway.project import project
from gateway.serve import serve
from gateway.supervise import supervise
from gateway.task_worker import work_off, worked_off
from schemas.errors import InvalidInput

ALONE = {PROJECT: project, TASKS: work_off}
"""What is no stage, and a process of its own."""


def _completed(incomplete: str) -> list[str]:
    names = [*(stage.name for stage in catalogue_topology().stages), *ALONE]
    return [name for name in names if name.startswith(incomplete)]


@configured
def worker(
    loaded: Loaded,
    stages: Annotated[
        list[str],
        typer.Argument(
            metavar="STAGE",
            help="Stages such as understand, plan, infer.local; or project, tasks.",
            autocompletion=_completed,
        ),
    ],
    parent: Annotated[int, typer.Option(hidden=True, help="The process to end with.")] = 0,
    metrics_port: MetricsPort = None,
) -> None:
    """Run one or more stages in this process until SIGTERM or Ctrl-C.

    Any number of processes may run the same stage; they share its work. `project` writes what all streams say to the
    database, where it stays: one does at a time, and others stand by. `tasks` works off the database's table of tasks:
    any number share that, too.

    Example: victoria worker step-execute
    """
    loaded = at_port(loaded, metrics_port)

    async def work(victoria: Victoria) -> None:
        await serve(victoria, victoria.require_stages(stages), parent)

    alone = next((name for name in ALONE if name in stages), "")
    if not alone:
        with_figures(loaded, work)
    elif set(stages) == {alone}:
        ALONE[alone](loaded, parent)
    else:
        raise InvalidInput("stage.alone", f"{alone} is a process of its own.", f"Run `victoria worker {alone}` beside.")


@configured
def up(
    loaded: Loaded,
    processes: Annotated[bool, typer.Option("--processes", metavar="", help="One process for each stage.")] = False,
    metrics_port: MetricsPort = None,
) -> None:
    """Run all stages until SIGTERM or Ctrl-C, in this process or one process each, and keep history in the database.

    Where a database is configured, its table of tasks is worked off too.

    Example: victoria up --processes
    """
    loaded = at_port(loaded, metrics_port)

    async def work(victoria: Victoria) -> None:
        async with kept(victoria), worked_off(victoria):
            await serve(victoria, await victoria.needed())

    async def have_worked(victoria: Victoria) -> None:
        stages = foreground(await victoria.needed())
        stages += [PROJECT] * loaded.settings.history + [TASKS] * bool(victoria.database)
        await supervise(stages, given_environment(loaded), loaded.settings.grace, loaded.settings.metrics_port)

    if processes:
        with_victoria(loaded, have_worked)
    else:
        with_figures(loaded, work)
