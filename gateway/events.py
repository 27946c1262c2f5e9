"""`victoria events`: the catalogue of events, made from the code."""

from typing import Annotated, Any, get_args

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from deploy.wiring import catalogue_topology
from gateway.options import Json
from schemas.errors import InvalidInput
from schemas.events import CATALOGUE, Event


def events(
    name: Annotated[str, typer.Argument(help="One event's name, for its fields in full.")] = "", as_json: Json = False
) -> None:
    """Show every event: type, stream, fields, who emits it, who reads it.

    Example: victoria events GoalSubmitted
    """
    rows = [row(event) for event in CATALOGUE.values() if not name or event.__name__ == name]
    if not rows:
        raise InvalidInput("event.unknown_type", f"No event type is called {name!r}.", "`victoria events` lists them.")
    if as_json:
        typer.echo(msgspec.json.encode(rows).decode())
        return
    console = Console()
    if name:
        console.print(f"{rows[0]['type']} (version {rows[0]['version']})\n{rows[0]['doc']}\n", markup=False)
    table = Table("type", "stream", "fields", "emitted by", "read by", box=None, pad_edge=False)
    for r in rows:
        fields = "\n".join(f"{k}: {v}" for k, v in r["fields"].items()) if name else ", ".join(r["fields"])
        table.add_row(r["type"], ", ".join(r["streams"]), fields, ", ".join(r["emitted_by"]), ", ".join(r["read_by"]))
    console.print(table)


def row(event: type[Event]) -> dict[str, Any]:
    """One event of the catalogue as data."""
    topology = catalogue_topology()
    return {
        "type": event.__name__,
        "version": event.version,
        "doc": (event.__doc__ or "").strip(),
        "streams": list(topology.routes.get(event, ())),
        "fields": {field.encode_name: _shown(field.type) for field in msgspec.structs.fields(event)},
        "emitted_by": list(topology.emitters(event)),
        "read_by": list(topology.readers(event)),
    }


def _shown(kind: Any) -> str:
    """A field's type as people write it."""
    arguments = get_args(kind)
    if not arguments:
        return kind.__name__ if isinstance(kind, type) else str(kind)
    return (
        str(kind)
        .replace("typing.", "")
        .replace("schemas.plan.", "")
        .replace("schemas.errors.", "")
        .replace("schemas.events.", "")
    )
