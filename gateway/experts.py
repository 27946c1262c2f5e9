"""`victoria experts`: who carries steps out, and who can what."""

from difflib import get_close_matches
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from consumers.experts.expert import FOLDER, Expert
from consumers.experts.roster import Folders, Roster
from deploy.loading import Loaded
from deploy.people import experts as folders
from deploy.people import strategies
from deploy.tools import registry
from gateway.options import Json, configured
from gateway.screen import OUT, emit, note, styled
from schemas.errors import InvalidInput


def _completed(incomplete: str) -> list[str]:
    return [name for name in Folders(FOLDER).roster().experts if name.startswith(incomplete)]


@configured
def experts(
    loaded: Loaded,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="One expert, with all of its fields.", autocompletion=_completed)
    ] = "",
    as_json: Json = False,
) -> None:
    """Show the experts by department, and the capability map: who can what, the best first.

    A file NAME.yaml in the folder of the setting experts_dir adds an expert, or replaces one. Exit code 1 if a file
    there is broken.

    Example: victoria experts frontend
    """
    folder = loaded.settings.experts_dir
    roster = folders(loaded.settings, registry(loaded.settings), strategies(loaded.settings)).roster()
    if name:
        expert = one_of(roster, name)
        emit(_data(expert)) if as_json else OUT.print(_card(expert))
        return
    if as_json:
        emit(
            {
                "experts": [_data(expert) for expert in roster.experts.values()],
                "capabilities": {
                    capability: {expert.name: expert.capabilities[capability] for expert in able}
                    for capability, able in roster.capabilities.items()
                },
                "problems": roster.problems,
                "folder": str(folder),
            }
        )
    else:
        OUT.print(_rooms(roster))
        OUT.print()
        OUT.print(_map(roster))
        note(f"Yours go into {folder}", "dim")
        for problem in roster.problems:
            note(f"{problem.message} {problem.hint}", "red")
    if roster.problems:
        raise typer.Exit(1)


def one_of(roster: Roster, name: str) -> Expert:
    """The expert of that name. Raises InvalidInput `expert.unknown`."""
    if name in roster.experts:
        return roster.experts[name]
    near = get_close_matches(name, roster.experts, 1)
    hint = f"Did you mean {near[0]}?" if near else "`victoria experts` lists them."
    raise InvalidInput("expert.unknown", f"No expert is called {name!r}.", hint)


def _data(expert: Expert) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(expert)
    return fields


def _rooms(roster: Roster) -> Table:
    table = _grid()
    for department, members in roster.departments.items():
        table.add_row(styled((department, "italic")), "")
        for expert in members:
            table.add_row(f"  {expert.name}", _called(expert))
            table.add_row("", styled((", ".join(expert.capabilities), "dim")))
    return table


def _map(roster: Roster) -> Table:
    table = _grid()
    table.add_row(styled(("capability", "italic")), styled(("who can, the best first", "italic")))
    for capability, able in roster.capabilities.items():
        said = ", ".join(f"{expert.name} {expert.capabilities[capability]:.2f}" for expert in able)
        table.add_row(f"  {capability}", styled(said))
    return table


def _card(expert: Expert) -> Table:
    table = _grid()
    table.add_row(expert.name, _called(expert))
    capabilities = ", ".join(f"{name} {level:.2f}" for name, level in expert.capabilities.items())
    rows = {
        "department": f"{expert.department}, {expert.rank}",
        "category": expert.category,
        "strategy": f"{expert.strategy}, at most {expert.max_iterations} rounds",
        "capabilities": capabilities,
        "tools": ", ".join(expert.tools) or "none",
        "models": ", ".join(expert.models) or "as for everyone",
        "file": expert.source,
        "instructions": expert.instructions.strip(),
    }
    for key, value in rows.items():
        table.add_row(f"  {key}", styled((value, "dim" if key == "file" else "")))
    return table


def _called(expert: Expert) -> Any:
    return styled(f"{expert.display_name}. {expert.title} {expert.emoji}".rstrip())


def _grid() -> Table:
    """Two columns, so that it can be read on 80."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    return table
