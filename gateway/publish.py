"""`victoria publish`: put goals on the intake stream, one or many, and wait for them where wanted."""

import sys
from typing import Annotated, Any

import msgspec
import typer

from consumers.intake import goal_submitted
from deploy.wiring import Victoria
from gateway.options import Json, Model, RedisUrl, Set, loaded_settings, with_victoria
from gateway.run import RunReport
from gateway.submit import BATCH, Accepted, Refused, Results, accepted, read_lines
from schemas.envelope import Envelope
from schemas.errors import InvalidInput, VictoriaError
from schemas.events import RunFinished


def publish(
    goal: Annotated[str | None, typer.Argument(help="What you want; or --stdin for many.", show_default=False)] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help='Read NDJSON: {"goal": "..."} a line.')] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the answers; workers must run.")] = False,
    project: Annotated[str, typer.Option(help="An allowed project; by default the main one.")] = "",
    session: Annotated[str, typer.Option(help="A conversation this goal belongs to.")] = "",
    as_json: Json = False,
    redis_url: RedisUrl = None,
    model: Model = None,
    more: Set = None,
) -> None:
    """Publish goals to the intake stream; prints each run's id.

    Lines that are refused are named by number and the others go on; the exit code is 1 then.

    Example: echo '{"goal": "List the files"}' | victoria publish --stdin --wait
    """
    if stdin == (goal is not None):
        raise InvalidInput("publish.usage", "Give either a goal or --stdin.", 'victoria publish "List the files"')
    loaded = loaded_settings(redis_url, model, more)
    if goal is not None:
        goal_submitted(goal)

    async def work(victoria: Victoria) -> bool:
        lines = read_lines(victoria, sys.stdin.buffer) if stdin else [accepted(victoria, goal or "", project, session)]
        taken: list[Accepted] = []
        good = True
        for item in lines:
            match item:
                case Refused(line, error):
                    good = False
                    _refused(line, error, as_json)
                case Accepted():
                    taken.append(item)
        results = await Results.from_now(victoria, [item.run_id for item in taken]) if wait else None
        for start in range(0, len(taken), BATCH):
            batch = taken[start : start + BATCH]
            await victoria.submit([(item.run_id, item.goal) for item in batch])
            if not results:
                for item in batch:
                    _say({"run_id": item.run_id, "status": "queued"}, item.run_id, as_json)
        if results:
            good &= await _wait(results, taken, as_json)
        return good

    if not with_victoria(loaded, work):
        raise typer.Exit(1)


async def _wait(results: Results, taken: list[Accepted], as_json: bool) -> bool:
    good = True
    async for seen in results.of([item.run_id for item in taken]):
        match seen.envelope:
            case Envelope(run=run_id, body=RunFinished() as end):
                good &= end.status == "completed"
                _say(RunReport.of(run_id, end), f"{run_id} {end.status}\n{end.output}", as_json)
            case _:
                pass
    return good


def _refused(line: int, error: VictoriaError, as_json: bool) -> None:
    _say({"line": line, "error": error.info}, f"line {line}: {error}", as_json, err=not as_json)


def _say(data: Any, text: str, as_json: bool, err: bool = False) -> None:
    typer.echo(msgspec.json.encode(data).decode() if as_json else text, err=err)
