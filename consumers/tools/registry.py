"""All tools by name. A tool is one file, beside this one or in the user's folder of tools: it is found, not listed."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Union, cast, get_args

import msgspec

from consumers import plugins
from consumers import tools as package
from consumers.tools.allowed import Allowed
from consumers.tools.tool import Asked, Missing, Site, ToolArguments
from schemas.errors import CouldNotStart, InvalidInput, ToolRefused, VictoriaError
from schemas.plan import ToolCall
from streams.stage import Effects

MAX_CHARACTERS = 256 * 1024
"""Of what a tool gives: the rest is left out, and that is said."""
FINISH = "finish"
"""The tool that ends a loop, which every choice of tools has."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
YES, NO = "yes", "no"
BROKEN = "tool.broken"


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool as data. `source` is the file it is in, `missing` why it can't be offered, "" if it can."""

    name: str
    arguments: type[ToolArguments]
    source: Path
    missing: str = ""

    @property
    def description(self) -> str:
        """What it does, in a line."""
        return self.arguments.description

    @property
    def effects(self) -> Effects:
        """What becomes of a call of which a crash hides whether it was done."""
        return self.arguments.effects

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its arguments, `thought` left out."""
        return tuple(name for name in self.arguments.__struct_fields__ if name != "thought")

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of a call."""
        return msgspec.json.schema(self.arguments)


@dataclass(frozen=True)
class Registry:
    """The tools that can be used, by name, under what settings allow; `absent` are those that can't, and say why."""

    tools: dict[str, Tool]
    allowed: Allowed = field(default_factory=Allowed)
    absent: dict[str, Tool] = field(default_factory=dict[str, Tool])

    @classmethod
    def of(cls, found: Iterable[type[ToolArguments]], allowed: Allowed | None = None) -> "Registry":
        """These tools. Raises CouldNotStart `tool.broken`."""
        allowed = allowed or Allowed()
        registry = cls({}, allowed)
        for arguments in found:
            tool = _tool(arguments, allowed)
            if earlier := registry.tools.get(tool.name) or registry.absent.get(tool.name):
                raise CouldNotStart(
                    BROKEN,
                    f"Two tools are called {tool.name}: in {earlier.source} and in {tool.source}.",
                    "Give one another tag.",
                )
            (registry.absent if tool.missing else registry.tools)[tool.name] = tool
        return registry

    @property
    def names(self) -> tuple[str, ...]:
        """What experts may name: all tools, also those that can't be used here."""
        return (*self.tools, *self.absent)

    def chosen(self, names: Iterable[str]) -> "Registry":
        """Those of these names that can be used, and `finish`. Raises InvalidInput `tool.unknown`."""
        names = {*names, FINISH}
        if unknown := sorted(names.difference(self.names)):
            raise InvalidInput("tool.unknown", f"No tool is called {unknown[0][:80]!r}.", self._nearest(unknown[0]))
        return Registry(
            {name: tool for name, tool in self.tools.items() if name in names},
            self.allowed,
            {name: tool for name, tool in self.absent.items() if name in names},
        )

    @cached_property
    def action(self) -> type[ToolArguments]:
        """What a model answers in one round: the union of all tools' arguments, told apart by the field `tool`."""
        kinds = tuple(tool.arguments for tool in self.tools.values())
        return cast("Any", Union)[kinds]

    @cached_property
    def described(self) -> str:
        """The tools for a prompt, one line each: `read_file(path): the text of one file`."""
        return "\n".join(f"{t.name}({', '.join(t.parameters)}): {t.description}" for t in self.tools.values())

    def parse(self, call: ToolCall) -> ToolArguments:
        """A call's checked arguments. Raises ToolRefused `tool.unknown` or `tool.arguments`."""
        tool = self.tools.get(call.tool)
        if tool is None:
            raise ToolRefused("tool.unknown", f"No tool is called {call.tool[:80]!r}.", self._nearest(call.tool))
        fields = {"tool": tool.name, "thought": "", **call.arguments}
        try:
            return msgspec.convert(fields, tool.arguments)
        except msgspec.ValidationError as problem:
            raise ToolRefused(
                "tool.arguments",
                f"The arguments of {tool.name} are wrong: {problem}.",
                f"It takes {', '.join(tool.parameters)}.",
            ) from problem

    def require_approval(self, call: ToolArguments) -> None:
        """See that nobody has to agree to a call. Raises Asked, with YES and NO to choose from, if somebody has."""
        if call.approval and call.name not in self.allowed.approved:
            arguments = msgspec.to_builtins(call)
            said = {name: value for name, value in arguments.items() if name not in ("tool", "thought")}
            raise Asked(f"May {call.name} be used with {msgspec.json.encode(said).decode()}?", (YES, NO), approval=True)

    def _nearest(self, name: str) -> str:
        if absent := self.absent.get(name):
            return absent.missing
        near = get_close_matches(name[:80], self.tools, n=1)
        return f"Did you mean {near[0]}?" if near else f"The tools are {', '.join(self.tools)}."


async def carried_out(call: ToolArguments, site: Site) -> str:
    """Do a call; the observation, cut at MAX_CHARACTERS. Whether somebody had to agree is the caller's matter.

    Raises VictoriaErrors as the tool does, Asked and Missing. A mistake in a tool that changes nothing is a ToolRefused
    `tool.failed`; of one that may have changed something the journal's policy decides.
    """
    try:
        text = await call.run(site)
    except (VictoriaError, Asked, Missing):
        raise
    except Exception as problem:
        if call.policy() != "none":
            raise
        raise ToolRefused(
            "tool.failed", f"{call.name} failed: {type(problem).__name__}: {problem}"[:500], "Try something else."
        ) from problem
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - it may be anybody's code
        raise ToolRefused(
            "tool.no_text",
            f"{call.name} was carried out, but gave {type(text).__name__} in place of text.",
            "Its `run` must return what it has to say, as a str.",
        )
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]}\n({len(text) - MAX_CHARACTERS:,} characters more are left out)"


def built_in() -> Iterator[type[ToolArguments]]:
    """The tools in this package, by the names of their files."""
    return plugins.in_package(package, ToolArguments)


def in_folder(folder: Path) -> Iterator[type[ToolArguments]]:
    """The tools in a folder's Python files. Raises CouldNotStart `tool.broken`, with file and line."""
    return plugins.in_folder(folder, ToolArguments, BROKEN)


def _tool(arguments: type[ToolArguments], allowed: Allowed) -> Tool:
    """The tool that a subclass describes, held against the contract."""
    name = str(arguments.__struct_config__.tag)
    for fine, problem in (
        (_NAME.fullmatch(name), f"its tag is {name!r}; it should be a name in small letters, as in read_file"),
        (isinstance(getattr(arguments, "description", None), str), "it has no description"),
        (arguments.effects in get_args(Effects), f"its effects are none of {', '.join(get_args(Effects))}"),
    ):
        if not fine:
            raise plugins.broken(arguments, BROKEN, f"is no tool: {problem}")
    return Tool(name, arguments, plugins.source(arguments), arguments.missing(allowed))


BUILT_IN = Registry.of(built_in())
"""What there is without any settings."""
