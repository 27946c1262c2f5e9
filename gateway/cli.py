"""The command `victoria`."""

import sys
from collections.abc import Iterable

import typer
from rich.console import Console

from gateway import config, doctor, events, publish, run, status, tail, work
from schemas.errors import VictoriaError

app = typer.Typer(
    name="victoria",
    help="Event-driven orchestration of language-model agents on Redis Streams.",
    epilog='Example: victoria run "List the files in the folder schemas"',
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("up")(work.up)
app.command("worker")(work.worker)
app.command("publish")(publish.publish)
app.command("status")(status.status)
app.command("tail")(tail.tail)
app.command("events")(events.events)
app.command("config")(config.config)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command line. Typed errors become a message with code and hint, and their exit code."""
    try:
        app()
    except* VictoriaError as problems:
        problem = next(iter(_leaves(problems)))
        complain(problem)
        sys.exit(problem.exit_code)
    except* BrokenPipeError:
        # Whoever read our output has enough, as `head` does.
        sys.stderr.close()
        sys.exit(0)


def _leaves(problems: BaseExceptionGroup[VictoriaError]) -> Iterable[VictoriaError]:
    for problem in problems.exceptions:
        if isinstance(problem, BaseExceptionGroup):
            yield from _leaves(problem)
        else:
            yield problem


def complain(problem: VictoriaError) -> None:
    """Print an error for people on standard error."""
    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]error[/] {_plain(problem.message)} [dim]\\[{_plain(problem.code)}][/]", soft_wrap=True)
    if problem.hint:
        console.print(f"hint  {_plain(problem.hint)}", soft_wrap=True)


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


if __name__ == "__main__":
    main()
