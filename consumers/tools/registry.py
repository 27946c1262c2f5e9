"""All tools by name. A tool is one file, beside this one or in the user's folder of tools: it is found, not listed."""

import importlib
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from hashlib import blake2b
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Union, cast, get_args

import msgspec

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
                    "tool.broken",
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
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]}\n({len(text) - MAX_CHARACTERS:,} characters more are left out)"


def built_in() -> Iterator[type[ToolArguments]]:
    """The tools in this package, by the names of their files."""
    for found in pkgutil.iter_modules(package.__path__):
        yield from _tools_of(importlib.import_module(f"{package.__name__}.{found.name}"))


def in_folder(folder: Path) -> Iterator[type[ToolArguments]]:
    """The tools in a folder's Python files, by name; those that begin with _ are left out, and so is a missing folder.

    The files are run, as their owner's own. Raises CouldNotStart `tool.broken`, with file and line.
    """
    for path in sorted(folder.glob("[!_]*.py")):
        yield from _tools_of(_loaded(path))


def _loaded(path: Path) -> ModuleType:
    digest = blake2b(str(path).encode(), digest_size=6).hexdigest()
    spec = spec_from_file_location(f"victoria_tools_{digest}.{path.stem}", path)
    if spec is None or spec.loader is None:
        raise CouldNotStart("tool.broken", f"{path} is no Python file.", "Remove it.")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # msgspec looks there for what annotations mean
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == str(path)]
        line = problem.lineno if isinstance(problem, SyntaxError) else frames[-1].lineno if frames else 1
        raise CouldNotStart(
            "tool.broken",
            f"{path}, line {line}: {type(problem).__name__}: {problem}",
            "Correct the file, or take it out of the folder.",
        ) from problem
    return module


def _tools_of(module: ModuleType) -> Iterator[type[ToolArguments]]:
    for value in list(vars(module).values()):
        own = isinstance(value, type) and value.__module__ == module.__name__  # not only imported there
        if own and issubclass(value, ToolArguments) and not inspect.isabstract(value):
            yield value


def _tool(arguments: type[ToolArguments], allowed: Allowed) -> Tool:
    """The tool that a subclass describes, held against the contract."""
    name = str(arguments.__struct_config__.tag)
    source = Path(inspect.getfile(arguments))
    for fine, problem in (
        (_NAME.fullmatch(name), f"its tag is {name!r}; it should be a name in small letters, as in read_file"),
        (isinstance(getattr(arguments, "description", None), str), "it has no description"),
        (arguments.effects in get_args(Effects), f"its effects are none of {', '.join(get_args(Effects))}"),
    ):
        if not fine:
            line = inspect.getsourcelines(arguments)[1]
            raise CouldNotStart(
                "tool.broken", f"{source}, line {line}: {arguments.__name__} is no tool: {problem}.", "Correct it."
            )
    return Tool(name, arguments, source, arguments.missing(allowed))


BUILT_IN = Registry.of(built_in())
"""What there is without any settings."""
