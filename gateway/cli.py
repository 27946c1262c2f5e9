"""The command `victoria`."""

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

try:
    import typer

    from gateway import (
        ask,
        bench,
        cancel,
        config,
        dead,
        doctor,
        events,
        experts,
        fork,
        hypotheses,
        lag,
        memory,
        migrate,
        models,
        plan,
        project,
        publish,
        questions,
        redeliver,
        replay,
        run,
        runs,
        serve_http,
        sessions,
        show,
        status,
        strategies,
        tail,
        tasks,
        token,
        tools,
        work,
    )
    from gateway.chat.command import chat
    from gateway.complain import complain, wants_json
except KeyboardInterrupt:  # importing all this takes half a second
    sys.exit(130)

app = typer.Typer(
    name="victoria",
    epilog='Example: victoria run "List the files in the folder schemas"',
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("chat")(chat)
app.command("ask")(ask.ask)
app.command("up")(work.up)
app.command("worker")(work.worker)
app.command("serve")(serve_http.serve)
app.command("publish")(publish.publish)
app.command("cancel")(cancel.cancel)
app.command("questions")(questions.questions)
app.command("answer")(questions.reply)
app.command("status")(status.status)
app.command("runs")(runs.runs)
app.command("plan")(plan.plan)
app.command("show")(show.show)
app.command("tail")(tail.tail)
app.command("lag")(lag.lag)
app.command("replay")(replay.replay)
app.command("fork")(fork.fork)
app.command("redeliver", context_settings={"ignore_unknown_options": True})(redeliver.redeliver)
app.command("events")(events.events)
app.command("tools")(tools.tools)
app.command("experts")(experts.experts)
app.command("strategies")(strategies.strategies)
app.command("config")(config.config)
app.command("doctor")(doctor.doctor)
app.command("migrate")(migrate.migrate)
app.add_typer(models.app)
app.add_typer(dead.app)
app.add_typer(sessions.app)
app.add_typer(memory.app)
app.add_typer(hypotheses.app)
app.add_typer(token.app)
app.add_typer(project.app)
app.add_typer(tasks.app)
app.add_typer(bench.app)


@app.callback(invoke_without_command=True)
def victoria(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", metavar="", help="Show the version and exit.")] = False,
) -> None:
    """Event-driven orchestration of language-model agents on Redis Streams."""
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"victoria {version_of('victoria-streams')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def main() -> None:
    """Run the command line and exit with its code."""
    # Python has none of these where the caller closed them; what is written then goes nowhere.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - for as long as the process lives
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may know fewer characters
    try:
        code = app(prog_name="victoria", standalone_mode=False)
    except SystemExit:
        raise
    except BaseException as problem:  # also Ctrl-C, and what comes in groups
        code = complain(problem, wants_json(sys.argv[1:]))
    _end(code or 0)


def _end(code: int) -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more on its way out: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
