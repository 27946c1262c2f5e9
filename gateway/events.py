"""`victoria events`: the catalogue of events, made from the code."""

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
import typer
from rich.table import Table

from deploy.wiring import catalogue_topology
from gateway.options import Json
from gateway.screen import OUT, emit, styled
from schemas.errors import InvalidInput
from schemas.events import CATALOGUE, Event
from streams.topology import Topology


def _completed(incomplete: str) -> list[str]:
    return [name for name in CATALOGUE if name.startswith(incomplete)]


def events(
    name: Annotated[
        str,
        typer.Argument(metavar="TYPE", help="One type, for its fields in full.", autocompletion=_completed),
    ] = "",
    as_json: Json = False,
) -> None:
    """Show every event: who emits it, its stream, who reads it, its fields.

    Example: victoria events GoalSubmitted
    """
    topology = catalogue_topology()
    rows = [row(event, topology) for event in CATALOGUE.values() if name in ("", event.__name__)]
    if not rows:
        raise InvalidInput("event.unknown_type", f"No event type is called {name!r}.", "`victoria events` lists them.")
    if as_json:
        emit(rows)
        return
    # Two columns, so that it can be read on 80: the type, and what is to be said about it.
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    table.add_row("", styled(("emitted by → stream → read by", "italic")))
    for each in rows:
        table.add_row(each["type"], _way(each))
        if name:
            table.add_row("", styled(("".join(("version ", str(each["version"]), "\n\n", each["doc"], "\n")), "dim")))
            for field, kind in each["fields"].items():
                table.add_row(f"  {field}", kind)
        else:
            table.add_row("", styled((", ".join(each["fields"]), "dim")))
    OUT.print(table)


def row(event: type[Event], topology: Topology) -> dict[str, Any]:
    """One event of the catalogue as data."""
    return {
        "type": event.__name__,
        "version": event.version,
        "doc": (event.__doc__ or "").strip(),
        "streams": list(topology.routes.get(event, ())),
        "fields": {field.encode_name: shown(field.type) for field in msgspec.structs.fields(event)},
        "emitted_by": list(topology.emitters(event)),
        "read_by": list(topology.readers(event)),
    }


def _way(event: dict[str, Any]) -> str:
    """Who says it, by which stream, to whom."""
    return " → ".join(", ".join(event[part]) or "nobody" for part in ("emitted_by", "streams", "read_by"))


def shown(kind: Any) -> str:
    """A field's type as people write it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is NoneType:
        return "None"
    if origin is Annotated:
        return shown(arguments[0])
    if origin is Literal:
        return " | ".join(map(repr, arguments))
    if origin in (Union, UnionType):
        return " | ".join(map(shown, arguments))
    name = getattr(origin or kind, "__name__", str(kind))
    inside = ", ".join("..." if argument is ... else shown(argument) for argument in arguments)
    return f"{name}[{inside}]" if inside else name
