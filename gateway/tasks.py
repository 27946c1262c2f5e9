"""`victoria tasks`: work for the background, put on the table of the database and looked at there."""

import getpass
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar, cast

import anyio
import msgspec
import typer
from rich.table import Table

from consumers.intake import goal_submitted
from consumers.tasks.cycle import Cycled
from consumers.tasks.table import Tasks
from consumers.tasks.task import ATTEMPTS, PRIORITIES, STATUSES, NewTask, Priority, Task
from deploy.database import database_server, opened_database
from deploy.loading import Loaded
from deploy.people import experts, require, strategies
from deploy.projects import Projects
from deploy.tasks import task_parts
from deploy.tools import registry
from deploy.victoria import Victoria
from gateway.complain import Interrupted
from gateway.interrupt import interruptible
from gateway.options import Expert, Json, configured, event_loop, with_victoria
from gateway.screen import OUT, answer, emit, line, listed, note, styled
from schemas.errors import InvalidInput

R = TypeVar("R")

LOOK_EVERY = 2.0
"""Seconds between looks at a task that is waited for, where nothing is heard of it."""

Id = Annotated[str, typer.Argument(metavar="ID", help="The task's id.")]

app = typer.Typer(
    name="tasks",
    help="Work for the background: add tasks, look at them, cancel or retry them.",
    no_args_is_help=True,
    epilog='Example: victoria tasks add "List the files in docs"; victoria worker tasks',
)


class Cycle(msgspec.Struct, frozen=True):
    """What `tasks cycle` did."""

    cycle: Cycled
    published: int


@app.command("add")
@configured
def add(
    loaded: Loaded,
    goal: Annotated[str, typer.Argument(metavar="GOAL", help="What you want, in plain words and any language.")],
    context: Annotated[str, typer.Option(metavar="TEXT", help="What to know about it.")] = "",
    priority: Annotated[str, typer.Option(metavar="NAME", help=", ".join(PRIORITIES) + ".")] = "normal",
    project: Annotated[str, typer.Option(metavar="NAME", help="An allowed project; by default the main one.")] = "",
    expert: Expert = "",
    capability: Annotated[
        str, typer.Option(metavar="NAME", help="What its expert must be able to do; `victoria experts` lists them.")
    ] = "",
    attempts: Annotated[int, typer.Option(min=1, max=100, metavar="N", help="How often it may be tried.")] = ATTEMPTS,
    wait: Annotated[bool, typer.Option("--wait", metavar="", help="Wait for its end; workers must run.")] = False,
    as_json: Json = False,
) -> None:
    """Put a task on the table; prints its id. A worker for tasks takes it at once.

    Example: victoria tasks add "List the files in docs" --priority high --wait
    """
    task = NewTask(
        goal=goal_submitted(goal, setting=context).goal,
        project=Projects.from_settings(loaded.settings, loaded.root).require(project) if project else "",
        context=context,
        expert=expert,
        capability=capability,
        priority=cast("Priority", _one_of("priority", priority, PRIORITIES)),
        attempts=attempts,
        created_by=_user(),
    )
    _require(loaded, expert, capability)

    async def work(tasks: Tasks) -> Task:
        (task_id,) = await tasks.add([task])
        if not wait:
            return await tasks.show(task_id)
        look = f"`victoria tasks show {task_id}` shows it."
        async with interruptible(lambda: Interrupted("interrupted", f"Interrupted; the task {task_id} is kept.", look)):
            return await _ended(tasks, task_id)

    found = _with_tasks(loaded, work)
    if wait:
        _report(found, as_json)
    elif as_json:
        emit(found)
    else:
        answer(found.id)
        note("waits for a worker: `victoria worker tasks`, beside `victoria up`", "dim")


@app.command("list")
@configured
def listing(
    loaded: Loaded,
    status: Annotated[str, typer.Option(metavar="NAME", help="Only those: " + ", ".join(STATUSES) + ".")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List tasks, the newest first.

    Example: victoria tasks list --status failed
    """
    if status:
        _one_of("status", status, STATUSES)
    found = _with_tasks(loaded, lambda tasks: tasks.newest(status, limit))
    listed(found, _table, as_json=as_json, without='no such tasks; `victoria tasks add "..."` adds one')


@app.command("show")
@configured
def show(loaded: Loaded, task: Id, as_json: Json = False) -> None:
    """Show a task, with its output where it has ended.

    Example: victoria tasks show 5b0c...
    """
    found = _with_tasks(loaded, lambda tasks: tasks.show(task))
    if as_json:
        emit(found)
    else:
        _print(found)


@app.command("cancel")
@configured
def cancel(loaded: Loaded, task: Id, as_json: Json = False) -> None:
    """Cancel a task that has not ended; its run, if it has one, is stopped.

    Example: victoria tasks cancel 5b0c...
    """

    async def work(victoria: Victoria) -> Task:
        async with opened_database(loaded.settings, url) as database:
            found = await Tasks(database).cancel(task)
            if found.run and not found.over:
                await victoria.cancel(found.run, "Its task was cancelled.")
            return found

    with database_server(loaded.settings) as url:
        found = with_victoria(loaded, work)
    if as_json:
        emit(found)
    else:
        answer(f"{found.id} {'is cancelled' if found.over else 'ends as soon as its run does'}")


@app.command("retry")
@configured
def retry(loaded: Loaded, task: Id, as_json: Json = False) -> None:
    """Have a task that failed or was cancelled done anew.

    Example: victoria tasks retry 5b0c...
    """
    found = _with_tasks(loaded, lambda tasks: tasks.retry(task))
    if as_json:
        emit(found)
    else:
        answer(f"{found.id} is {found.status} again")


@app.command("cycle")
@configured
def cycle(loaded: Loaded, as_json: Json = False) -> None:
    """Look after all tasks once, and publish those whose turn it is: as `victoria worker tasks` does all the time.

    Run by a timer it does without such a worker: what a cycle publishes, a later one settles.

    Example: victoria tasks cycle --json
    """

    async def work(victoria: Victoria) -> Cycle:
        async with opened_database(loaded.settings, url) as database:
            parts = task_parts(victoria, database)
            while not isinstance(done := await parts.cycle.run(), Cycled):  # noqa: ASYNC110 - locks end in silence
                await anyio.sleep(done)
            return Cycle(done, await parts.publishing.publish_due())

    with database_server(loaded.settings) as url:
        found = with_victoria(loaded, work)
    if as_json:
        emit({**msgspec.to_builtins(found.cycle), "published": found.published})
    else:
        counts = {**msgspec.to_builtins(found.cycle), "published": found.published}
        answer(", ".join(f"{count} {what}" for what, count in counts.items()))


def _with_tasks(loaded: Loaded, work: Callable[[Tasks], Awaitable[R]]) -> R:
    """Do `work` on the table, for which nothing but the database is needed."""

    async def do() -> R:
        async with opened_database(loaded.settings, url) as database:
            return await work(Tasks(database))

    with database_server(loaded.settings) as url:
        return event_loop(do)


async def _ended(tasks: Tasks, task_id: str) -> Task:
    heard = anyio.Event()

    def hear(what: str) -> None:
        if what == f"ended {task_id}":
            heard.set()

    async with tasks.listening(hear):
        while not (found := await tasks.show(task_id)).over:
            with anyio.move_on_after(LOOK_EVERY):
                await heard.wait()
    return found


def _one_of(what: str, name: str, known: tuple[str, ...]) -> str:
    if name not in known:
        raise InvalidInput(f"task.{what}", f"There is no {what} {name[:80]!r}.", f"There are {', '.join(known)}.")
    return name


def _require(loaded: Loaded, expert: str, capability: str) -> None:
    if expert:
        require(loaded.settings, "", expert)
    if capability:
        s = loaded.settings
        known = experts(s, registry(s), strategies(s)).roster().capabilities
        if capability not in known:
            hint = f"There are {', '.join(known)}."
            raise InvalidInput("capability.unknown", f"No expert is capable of {capability[:80]!r}.", hint)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # it has no name
        return ""


def _report(task: Task, as_json: bool) -> None:
    if as_json:
        emit(task)
    else:
        answer(task.output)
        _tell(task)
    if task.status != "completed":
        raise typer.Exit(1)


def _print(task: Task) -> None:
    OUT.print(styled((f"{task.status}  ", "bold"), task.goal), soft_wrap=True)
    if task.output:
        OUT.print(styled(task.output), soft_wrap=True)
    _tell(task)


def _tell(task: Task) -> None:
    """What there is to know beside goal and output."""
    note("")
    if isinstance(task.error, dict):
        said = cast("dict[str, object]", task.error)
        note(f"{said.get('message', '')} [{said.get('code', '')}] {said.get('hint', '')}".rstrip(), "red")
    facts = [task.status, task.priority, f"attempt {task.attempt} of {task.attempts}"]
    facts += [f"for {task.assignee}"] if task.assignee else []
    facts += [f"from {task.created_by}"] if task.created_by else []
    note(" · ".join(facts), "dim")
    note(f"task {task.id}" + (f", run {task.run}" if task.run else ""), "dim")


def _table(tasks: list[Task]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for width in (32, 9, 8, 10):
        table.add_column(no_wrap=True, min_width=width)
    table.add_column(overflow="ellipsis", no_wrap=True)
    table.add_row(*(styled((name, "italic")) for name in ("task", "status", "priority", "for", "goal")))
    for task in tasks:
        table.add_row(*map(styled, (task.id, task.status, task.priority, task.assignee, line(task.goal))))
    return table
