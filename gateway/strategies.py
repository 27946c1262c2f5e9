"""`victoria strategies`: the shapes that plans can have, made from the code and the settings."""

from typing import Any

from rich.table import Table

from consumers.plugins import source
from consumers.strategies.strategy import Strategy
from deploy.loading import Loaded
from deploy.people import strategies as registry
from gateway.options import Json, configured
from gateway.screen import OUT, emit, note, styled


@configured
def strategies(loaded: Loaded, as_json: Json = False) -> None:
    """Show every strategy, and for which kinds of goals it is chosen.

    Example: victoria strategies --json
    """
    rows = [row(strategy) for strategy in registry(loaded.settings).by_name.values()]
    if as_json:
        emit(rows)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for each in rows:
        table.add_row(each["name"], each["description"])
        chosen = ", ".join(each["suits"])
        table.add_row("", styled((f"for what is {chosen}" if chosen else "where it is wanted", "dim")))
    OUT.print(table)
    note(f"Yours go into {loaded.settings.strategies_dir}", "dim")


def row(strategy: Strategy) -> dict[str, Any]:
    """One strategy as data. A `direct` one needs no model to make a plan."""
    return {
        "name": strategy.name,
        "description": strategy.description,
        "suits": list(strategy.suits),
        "direct": strategy.direct,
        "source": str(source(type(strategy))),
    }
