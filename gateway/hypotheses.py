"""`victoria hypotheses`: what may be so, and what was found out about it."""

from typing import Annotated

import typer
from rich.table import Table

from consumers.hypotheses import HypothesisView
from deploy.loading import Loaded
from deploy.victoria import Victoria
from gateway.options import Json, configured, with_victoria
from gateway.screen import answer, emit, line, listed, styled

Id = Annotated[str, typer.Argument(metavar="ID", help="The id that `victoria publish` printed.")]

app = typer.Typer(name="hypotheses", help="List hypotheses, or show what was found out about one.")


@app.callback(
    invoke_without_command=True,
    epilog="Example: victoria hypotheses --limit 5; victoria hypotheses show 019ab2c3d4e5f60718293a4b5c6d7e8f",
)
@configured
def hypotheses(
    loaded: Loaded,
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List the hypotheses that were raised last, the newest first: confirmed, refuted, open, or being validated."""
    if context.invoked_subcommand is not None:
        return

    async def work(victoria: Victoria) -> list[HypothesisView]:
        return await victoria.hypotheses.newest(limit)

    found = with_victoria(loaded, work)
    listed(found, _table, as_json=as_json, without="no hypotheses")


@app.command("show")
@configured
def show(loaded: Loaded, hypothesis: Id, as_json: Json = False) -> None:
    """Show a hypothesis: its verdict, what it rests on, and the runs that were to find out about it.

    Example: victoria hypotheses show 019ab2c3d4e5f60718293a4b5c6d7e8f
    """
    found = with_victoria(loaded, lambda victoria: victoria.hypotheses.show(hypothesis))
    if as_json:
        emit(found)
    else:
        _print(found)


def _table(rows: list[HypothesisView]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    table.add_row(*(styled((name, "italic")) for name in ("id", "verdict", "confidence", "statement")))
    for row in rows:
        table.add_row(*map(styled, (row.id, row.verdict, f"{row.confidence:.2f}", line(row.statement, less=60))))
    return table


def _print(found: HypothesisView) -> None:
    answer(found.statement)
    answer(f"{found.verdict} · confidence {found.confidence:.2f} · {found.why or 'its validation goes on'}")
    for quote in found.evidence:
        answer(f"  evidence: {quote}")
    for each in found.validations:
        answer(f"  run {each.run_id} {each.status}: {line(each.goal, less=50)}")
