"""`victoria publish`: put goals on the intake stream, one or many, and wait for them where wanted."""

import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated, NamedTuple

import anyio
import typer

from consumers.intake import goal_submitted
from deploy.loading import Loaded
from deploy.victoria import Victoria
from gateway.bodies import Body, body, is_goal, publishable
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
from schemas.events import Event, RunFinished
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
    json_body: Annotated[
        str | None, typer.Option("--json-body", metavar="JSON", help="One line of it instead.", show_default=False)
    ] = None,
    type_name: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="The events' type; their JSON is of its fields.")
    ] = "GoalSubmitted",
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
    """Publish goals to the intake stream, or events of another type to theirs; prints each run's id.

    Lines that are refused are named by number and the others go on; the exit code is 1 then. When too many goals wait
    already, --stdin waits until they get fewer; a single goal is refused.

    Example: echo '{"goal": "List the files"}' | victoria publish --stdin --wait
    """
    if (goal is not None) + (json_body is not None) + stdin != 1 or (stdin and sys.stdin is None):
        raise InvalidInput(
            "publish.usage", "Give either a goal, or --json-body, or --stdin.", 'victoria publish "List the files"'
        )
    if not is_goal(type_name) and (goal is not None or wait or strategy or expert):
        raise InvalidInput(
            "publish.usage",
            f"A {type_name} comes by --json-body or --stdin, and is not waited for.",
            f"`victoria events {type_name}` shows its fields.",
        )
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
        lines = _given(json_body) if json_body is not None else batches(sys.stdin.fileno())
        if not is_goal(type_name):
            event = publishable(victoria, type_name)
            return await _publish_events(submit, event, lines, (project, session), stdin, as_json)
        if stdin and sys.stdin.isatty():
            note('Type goals as {"goal": "..."}, one a line; Ctrl-D ends.')
        source = _from_lines(victoria, lines, project, session, strict=not stdin)
        return await _publish(submit, source, wait, as_json)

    if not with_victoria(loaded, work):
        raise typer.Exit(1)


async def _alone(goal: Accepted) -> AsyncIterator[Iterable[Accepted | Refused]]:
    yield [goal]


async def _given(text: str) -> AsyncIterator[list[bytes]]:
    yield [text.encode(errors="surrogateescape")]


async def _from_lines(
    victoria: Victoria, all_lines: AsyncIterator[list[bytes]], project: str, session: str, *, strict: bool
) -> AsyncIterator[Iterable[Accepted | Refused]]:
    """Goals of lines. Where this is `strict`, one that is refused ends it all."""
    number = 1
    async for lines in all_lines:
        for start in range(0, len(lines), BATCH):
            part = lines[start : start + BATCH]
            found = list(read(part, number, victoria.projects, Line("", project, session)))
            for item in found if strict else ():
                if isinstance(item, Refused):
                    raise item.error
            yield found
            number += len(part)


async def _publish_events(
    submit: "Submit",
    event: type[Event],
    all_lines: AsyncIterator[list[bytes]],
    where: tuple[str, str],
    stdin: bool,
    as_json: bool,
) -> bool:
    """Publish events of lines, each as it comes; whether all went well. A single one's trouble is raised."""
    good, number = True, 0
    async for lines in all_lines:
        for raw in lines:
            number += 1
            try:
                if not raw.strip() and stdin:
                    continue
                one = body(submit.victoria, event, raw, *where)
                limits = submit.limits()
                await _published(submit, one, None if limits == Limits() else limits)
            except InvalidInput as problem:
                if not stdin:
                    raise
                good = False
                _refused(Refused(number, problem), as_json)
            else:
                _queued(one.run_id, as_json)
    return good


class Submit(NamedTuple):
    """How goals are put on their stream. `limits` hold for each run, from when it is submitted. While too many goals
    wait, a `patient` publisher waits too; another raises Overloaded."""

    victoria: Victoria
    limits: Callable[[], Limits]
    patient: bool


async def _published(submit: "Submit", one: Body, limits: Limits | None) -> None:
    """Publish one event, however long its stream is full if patient. Raises Overloaded."""
    while True:
        try:
            await submit.victoria.publish([one], limits)
        except Overloaded as full:
            if not submit.patient:
                raise
            await anyio.sleep(full.retry_after)
        else:
            return


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
