"""`victoria publish`: put goals on the intake stream, one or many, and wait for them where wanted."""

import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated, NamedTuple

import anyio
import typer

from consumers.intake import goal_submitted
from deploy.settings import Loaded
from deploy.wiring import Victoria
from gateway.complain import Interrupted
from gateway.interrupt import interruptible
from gateway.lines import Line, batches, read
from gateway.options import Calls, Deadline, Expert, Json, Strategy, Tokens, Unattended, configured, with_victoria
from gateway.report import RunReport
from gateway.screen import answer, emit, note
from gateway.serve import missing_stages
from gateway.submit import Accepted, Refused, Results, accepted
from schemas.envelope import Envelope
from schemas.errors import InvalidInput, Overloaded, Published
from schemas.events import RunFinished
from schemas.plan import Limits
from streams.connection import TROUBLE

BATCH = 500
"""How many goals one round trip takes."""
TELL_EVERY = 10.0
"""Seconds between notes on a stream that is full."""
TELL_AFTER = 3.0
"""Seconds of waiting after which it is said which stages have no worker."""


@configured
def publish(
    loaded: Loaded,
    goal: Annotated[
        str | None, typer.Argument(metavar="GOAL", help="What you want; or --stdin for many.", show_default=False)
    ] = None,
    stdin: Annotated[bool, typer.Option("--stdin", metavar="", help='Read NDJSON: {"goal": "..."} a line.')] = False,
    wait: Annotated[bool, typer.Option("--wait", metavar="", help="Wait for the answers; workers must run.")] = False,
    project: Annotated[str, typer.Option(metavar="NAME", help="An allowed project; by default the main one.")] = "",
    session: Annotated[str, typer.Option(metavar="ID", help="A conversation this goal belongs to.")] = "",
    strategy: Strategy = "",
    expert: Expert = "",
    tokens: Tokens = None,
    calls: Calls = None,
    deadline: Deadline = None,
    unattended: Unattended = False,
    as_json: Json = False,
) -> None:
    """Publish goals to the intake stream; prints each run's id.

    Lines that are refused are named by number and the others go on; the exit code is 1 then. When too many goals wait
    already, --stdin waits until they get fewer; a single goal is refused.

    Example: echo '{"goal": "List the files"}' | victoria publish --stdin --wait
    """
    if stdin == (goal is not None) or (stdin and sys.stdin is None):
        raise InvalidInput("publish.usage", "Give either a goal or --stdin.", 'victoria publish "List the files"')
    if goal is not None:
        goal_submitted(goal)  # before anything is started

    async def work(victoria: Victoria) -> bool:
        submit = Submit(
            victoria, partial(victoria.limits, tokens, calls, deadline, unattended=unattended), patient=stdin
        )
        if goal is not None:
            return await _publish(
                submit, _alone(accepted(victoria, goal, project, session, strategy, expert)), wait, as_json
            )
        if sys.stdin.isatty():
            note('Type goals as {"goal": "..."}, one a line; Ctrl-D ends.')
        return await _publish(submit, _from_stdin(victoria, project, session), wait, as_json)

    if not with_victoria(loaded, work):
        raise typer.Exit(1)


async def _alone(goal: Accepted) -> AsyncIterator[Iterable[Accepted | Refused]]:
    yield [goal]


async def _from_stdin(victoria: Victoria, project: str, session: str) -> AsyncIterator[Iterable[Accepted | Refused]]:
    number = 1
    async for lines in batches(sys.stdin.fileno()):
        for start in range(0, len(lines), BATCH):
            part = lines[start : start + BATCH]
            yield read(part, number, victoria.projects, Line("", project, session))
            number += len(part)


class Submit(NamedTuple):
    """How goals are put on their stream. `limits` hold for each run, from when it is submitted. While too many goals
    wait, a `patient` publisher waits too; another raises Overloaded."""

    victoria: Victoria
    limits: Callable[[], Limits]
    patient: bool


async def _publish(
    submit: Submit, source: AsyncIterator[Iterable[Accepted | Refused]], wait: bool, as_json: bool
) -> bool:
    """Publish what comes, and wait for the runs' ends where wanted. Whether all went well. Raises Overloaded."""
    good, published = True, 0
    waiting: dict[str, bool] = {}

    def interrupted() -> Interrupted:
        if not published:
            return Interrupted("interrupted", "Interrupted before anything was published.")
        hint = f"`victoria status {next(iter(waiting))}` shows the first that has no answer yet." if waiting else ""
        return Interrupted("interrupted", f"Interrupted; what was published is kept ({published}).", hint)

    async with interruptible(interrupted):
        results = await Results.from_now(submit.victoria) if wait else None
        async for batch in source:
            goals: list[Accepted] = []
            for item in batch:
                match item:
                    case Refused():
                        good = False
                        _refused(item, as_json)
                    case Accepted():
                        goals.append(item)
            async for run_id, result in _submitted(submit, goals):
                published += 1
                if results:
                    waiting[run_id] = result == "known"
                else:
                    _queued(run_id, as_json)
        if results:
            good &= await _wait(submit.victoria, results, waiting, as_json)
    return good


async def _submitted(submit: Submit, goals: Sequence[Accepted]) -> AsyncIterator[tuple[str, Published]]:
    """Run ids of goals as they get onto their stream, however long that takes if patient. Raises Overloaded."""
    tell_at = 0.0
    while goals:
        pause = 0.0
        try:
            results = await submit.victoria.submit([(item.run_id, item.goal) for item in goals], submit.limits())
        except Overloaded as full:
            if not submit.patient:
                raise
            results, pause = full.results, full.retry_after
            if anyio.current_time() >= tell_at:
                note(f"{full.message} Going on as they get fewer.")
                tell_at = anyio.current_time() + TELL_EVERY
        for item, result in zip(goals, results, strict=True):
            if result != "refused":
                yield item.run_id, result
        goals = [item for item, result in zip(goals, results, strict=True) if result == "refused"]
        await anyio.sleep(pause)


async def _wait(victoria: Victoria, results: Results, waiting: dict[str, bool], as_json: bool) -> bool:
    """Print each run's end, and take it out of `waiting`. Whether all are completed."""
    good = True
    for run_id in [run_id for run_id, known in waiting.items() if known]:
        if end := (await victoria.view(run_id)).finished:  # it had been published before, and may not end again
            good &= _ended(run_id, end, as_json)
            del waiting[run_id]
    async with anyio.create_task_group() as beside:
        beside.start_soon(_tell_absent, victoria)
        async for seen in results.of(waiting):
            match seen.envelope:
                case Envelope(run=run_id, body=RunFinished() as end):
                    good &= _ended(run_id, end, as_json)
                    waiting.pop(run_id, None)
                case _:
                    pass
        beside.cancel_scope.cancel()
    return good


async def _tell_absent(victoria: Victoria) -> None:
    """Say once what can keep runs from ending."""
    await anyio.sleep(TELL_AFTER)
    with suppress(*TROUBLE):  # who awaits results hears of it
        missing = await missing_stages(victoria)
        if missing:
            note(f"waiting; no worker for {', '.join(missing)}: start them with `victoria up`")


def _queued(run_id: str, as_json: bool) -> None:
    if as_json:
        emit({"run_id": run_id, "status": "queued"})
    else:
        answer(run_id)


def _refused(item: Refused, as_json: bool) -> None:
    if as_json:
        emit({"line": item.line, "error": item.error.info})
    else:
        note(f"line {item.line}: {item.error}")


def _ended(run_id: str, end: RunFinished, as_json: bool) -> bool:
    if as_json:
        emit(RunReport.of(run_id, end))
    else:
        answer(f"{run_id} {end.status}\n{end.output}")
    return end.status == "completed"
