"""Who carries out a step: an expert as its step needs it, and which tools it may use."""

import msgspec

from consumers.experts.roster import Roster
from consumers.tools.registry import Registry, Tool

PACKAGE = "consumers.tools"


class Persona(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a step takes from its expert's file. `tools` are names; None is every tool that any expert may use.

    Recorded with the step, so that a replay is done by who did it, whatever the file says by then.
    """

    name: str = ""
    rank: str = ""
    instructions: str = ""
    tools: tuple[str, ...] | None = None
    max_iterations: int = 0


NOBODY = Persona()
"""Who does a step that names no expert, or one that is there no more."""


def persona(roster: Roster, name: str) -> Persona:
    """An expert by name, or NOBODY."""
    expert = roster.experts.get(name)
    if expert is None:
        return NOBODY
    tools = None if expert.rank == "agent" and not expert.tools else expert.tools
    return Persona(expert.name, expert.rank, expert.instructions, tools, expert.max_iterations)


def tools_of(persona: Persona, registry: Registry) -> Registry:
    """The tools it may use, of those there are: one that was taken away since is left out.

    What a user has added by a file of their own is for everybody.
    """
    if persona.tools is None:
        return registry.chosen(name for name, tool in registry.tools.items() if tool.arguments.general)
    own = (name for name, tool in registry.tools.items() if tool.arguments.general and _added(tool))
    named = {*persona.tools, "missing_capability"} & (registry.tools.keys() | registry.absent.keys())
    return registry.chosen({*named, *own})


def _added(tool: Tool) -> bool:
    return not tool.arguments.__module__.startswith(PACKAGE)
