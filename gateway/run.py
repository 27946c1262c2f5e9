"""`victoria run`: start what is missing, publish one goal, show its way through the stages, print the answer."""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated

import anyio
import msgspec
import typer
from rich.console import Console
from rich.status import Status

from consumers.intake import goal_submitted
from deploy.wiring import Victoria
from gateway.options import Json, Model, RedisUrl, Set, loaded_settings, with_victoria
from gateway.submit import Accepted, Results, accepted
from schemas.envelope import Envelope
from schemas.errors import ErrorInfo, VictoriaError
from schemas.events import Metadata, RunFinished, RunProgressed, StageTime
from schemas.plan import RunStatus

MARKS = {"ok": "✓", "partial": "◐", "failed": "✗", "blocked": "✗"}


class RunReport(msgspec.Struct, omit_defaults=False):
    """A finished run as `--json` prints it."""

    run_id: str
    status: RunStatus
    output: str
    method: str
    model: str
    tokens: int
    stages: tuple[StageTime, ...]
    metadata: Metadata
    error: ErrorInfo | None = None

    @classmethod
    def of(cls, run_id: str, end: RunFinished) -> "RunReport":
        """The report of a run's end."""
        meta = end.metadata
        tokens = meta.tokens_in + meta.tokens_out
        return cls(run_id, end.status, end.output, end.method, meta.model, tokens, end.stages, meta, end.error)


class Progress:
    """A run's way through its stages on standard error: a line for each thing done, a spinner while one is awaited."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._status: Status | None = None
        self._started = datetime.now().astimezone()

    def waiting(self, text: str) -> None:
        """Show what is awaited; on a terminal only."""
        if self._console.is_terminal:
            if self._status is None:
                self._status = self._console.status(text)
                self._status.start()
            self._status.update(f"{text}")

    def done(self, mark: str, stage: str, text: str, at: datetime | None = None) -> None:
        """Print one thing done, with the seconds since the start."""
        seconds = ((at or datetime.now().astimezone()) - self._started).total_seconds()
        line = text.replace("\n", " ")
        self._console.print(f"{mark} {stage:<13} {max(seconds, 0):6.2f} s  {line}", markup=False, soft_wrap=True)

    def of(self, event: RunProgressed, at: datetime) -> None:
        """Print one event of a run's life cycle."""
        match event.kind:
            case "understood":
                self.done("✓", "understand", event.text, at)
                self.waiting("plan …")
            case "plan":
                self.done("✓", "plan", event.text, at)
                self.waiting("step-execute …")
            case "task_start":
                self.done("→", "step-execute", f"step {event.step_id}: {event.text}", at)
                self.waiting(f"step {event.step_id} …")
            case "task_end":
                text = f"step {event.step_id} {event.status}" + (f": {event.text}" if event.text else "")
                self.done(MARKS.get(event.status or "", "✓"), "step-execute", text, at)

    def download(self, done: int, total: int) -> None:
        """Show a model's download."""
        text = f"fetching the model, once: {done / 1e6:.0f} of {total / 1e6:.0f} MB"
        if self._console.is_terminal:
            self.waiting(text)
        elif done == total or done // 20_000_000 != (done - 1_000_000) // 20_000_000:
            self.done("·", "model", text)

    def close(self) -> None:
        """End the spinner."""
        if self._status:
            self._status.stop()
            self._status = None


@asynccontextmanager
async def missing_stages(victoria: Victoria) -> AsyncGenerator[tuple[str, ...]]:
    """Inside, every stage that no other process serves is served by this one; which those are."""
    live = await victoria.live()
    missing = tuple(stage for stage in victoria.stages if not live[stage])
    worker = victoria.worker(missing)
    async with anyio.create_task_group() as tasks:
        await tasks.start(worker.run)
        try:
            yield missing
        finally:
            worker.stop()


async def run_goal(victoria: Victoria, goal: Accepted, progress: Progress, seconds: float | None) -> RunFinished:
    """Publish a goal and follow its run to the end. Raises RunTimeout after `seconds`."""
    victoria.local_model.progress = progress.download
    results = await Results.from_now(victoria, [goal.run_id])
    async with missing_stages(victoria):
        await victoria.submit([(goal.run_id, goal.goal)])
        progress.waiting("understand …")
        with anyio.move_on_after(seconds):
            async for seen in results.of([goal.run_id]):
                match seen.envelope:
                    case Envelope(body=RunFinished() as end):
                        return end
                    case Envelope(body=RunProgressed() as event, at=at):
                        progress.of(event, at)
                    case _:
                        pass
    raise RunTimeout(
        "run.timeout",
        f"Run {goal.run_id} has not ended after {seconds:g} s; it is kept and goes on.",
        f"`victoria status {goal.run_id}` shows it; `victoria up` lets its stages go on.",
    )


class RunTimeout(VictoriaError):
    """A run took longer than its caller wanted to wait."""


def print_answer(report: RunReport) -> None:
    """The answer on standard output, and how it came about below it on standard error."""
    typer.echo(report.output)
    console = Console(stderr=True, highlight=False)
    stages = " · ".join(f"{s.stage} {s.seconds:.2f} s" for s in report.stages)
    console.print(
        f"\n{report.status} · method {report.method} · model {report.model} · "
        f"{report.tokens} tokens · {report.metadata.seconds:.2f} s\n{stages}\nrun {report.run_id}",
        style="dim",
        markup=False,
        soft_wrap=True,
    )


def run(
    goal: Annotated[str, typer.Argument(help="What you want, in plain words and any language.")],
    project: Annotated[str, typer.Option(help="An allowed project; by default the main one.")] = "",
    session: Annotated[str, typer.Option(help="A conversation this goal belongs to.")] = "",
    timeout: Annotated[
        float | None, typer.Option(help="Seconds to wait for the answer; the run goes on.", show_default=False)
    ] = None,
    as_json: Json = False,
    redis_url: RedisUrl = None,
    model: Model = None,
    more: Set = None,
) -> None:
    """Run a goal: start what is missing, show each stage live, print the answer.

    Example: victoria run "List the files in the folder schemas"
    """
    loaded = loaded_settings(redis_url, model, more)

    async def work(victoria: Victoria) -> RunReport:
        taken = accepted(victoria, goal, project, session)
        progress = Progress()
        try:
            return RunReport.of(taken.run_id, await run_goal(victoria, taken, progress, timeout))
        finally:
            progress.close()

    goal_submitted(goal)
    report = with_victoria(loaded, work)
    if as_json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    else:
        print_answer(report)
    if report.status != "completed":
        raise typer.Exit(1)
