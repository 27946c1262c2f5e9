"""`victoria tools`: what agents can use, made from the code and the settings."""

from typing import Any

import msgspec
from rich.table import Table

from consumers.tools.registry import Tool
from deploy.loading import Loaded
from deploy.tools import registry
from gateway.options import Json, configured
from gateway.screen import OUT, emit, styled


@configured
def tools(loaded: Loaded, as_json: Json = False) -> None:
    """Show every tool of agents, what it needs and may change.

    Example: victoria tools --json
    """
    found = registry(loaded.settings)
    rows = [row(tool, tool.name in found.allowed.approved) for tool in (*found.tools.values(), *found.absent.values())]
    if as_json:
        emit(rows)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for each in rows:
        table.add_row(each["name"], each["description"])
        table.add_row("", styled((_facts(each), "dim")))
        if each["missing"]:
            table.add_row("", styled((f"not offered: {each['missing']}", "yellow")))
    OUT.print(table)


def row(tool: Tool, approved: bool) -> dict[str, Any]:
    """One tool as data. `approval` says whether somebody has to agree to each call."""
    kind = tool.arguments
    return {
        "name": tool.name,
        "description": tool.description,
        "capability": kind.capability,
        "effects": tool.effects,
        "approval": kind.approval and not approved,
        "commands": list(kind.commands),
        "look": msgspec.to_builtins(kind.look),
        "schema": tool.schema,
        "source": str(tool.source),
        "missing": tool.missing,
    }


_MAY = {"none": "changes nothing", "repeat": "may be repeated", "unknown": "never repeated"}


def _facts(each: dict[str, Any]) -> str:
    facts = [each["capability"] or "any work", _MAY[each["effects"]]]
    if each["approval"]:
        facts.append("asks first")
    return " · ".join([*facts, *each["commands"]])
