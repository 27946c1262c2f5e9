"""Experts: one YAML file each. Adding one is adding a file.

A file is read into a checked record, or into an error that names file, line and what is allowed there. Every value is
read as the text it is, so that `no`, `on` and `12:30` mean what they say.
"""

import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import msgspec
import yaml
from msgspec import Meta

from consumers.strategies.registry import BUILT_IN
from schemas.errors import InvalidInput
from schemas.plan import TaskKind

FOLDER = Path(__file__).parent
"""The experts that come with Victoria."""
ENDING = ".yaml"

STRATEGIES = tuple(BUILT_IN.by_name)
"""What an expert may name as its strategy, where the caller does not say otherwise."""

LARGEST = 64 * 1024
"""Bytes of an expert's file."""
_DEEPEST = 8

Rank = Literal["agent", "head", "specialist", "assistant"]

_NAME = r"^[a-z][a-z0-9_]{0,39}$"
Name = Annotated[str, Meta(pattern=_NAME)]
Line = Annotated[str, Meta(min_length=1, max_length=80)]
Keyword = Annotated[str, Meta(min_length=1, max_length=60)]
Words = dict[Annotated[str, Meta(pattern="^[a-z]{2,3}$")], Annotated[tuple[Keyword, ...], Meta(max_length=300)]]
"""Keywords by language (`en`, `ru`, `zh`, any other), as consumers/words/keywords.py reads them. Languages are for the
eye: a keyword is looked for in every goal, and stands in one list only."""


class Signs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By which words a goal is sorted: `sure` ones decide alone, `hints` only together."""

    sure: Words = {}
    hints: Words = {}


class Expert(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who carries out a step. `source` is its file; all else stands in it."""

    name: Annotated[Name, Meta(description="the file's name without .yaml: small Latin letters, digits and _")]
    display_name: Annotated[Line, Meta(description="1 to 80 characters")]
    emoji: Annotated[str, Meta(max_length=8, description="one emoji, or nothing")] = ""
    title: Annotated[Line, Meta(description="1 to 80 characters that say what this expert is")]
    department: Annotated[Name, Meta(description="small Latin letters, digits and _")]
    rank: Annotated[Rank, Meta(description="agent, head, specialist or assistant")] = "specialist"
    category: Annotated[
        TaskKind,
        Meta(description="what most goals are: fast, coding, general, reasoning, planning, execution or complex"),
    ] = "general"
    strategy: Annotated[Name, Meta(description="the name of a strategy")] = "react"
    max_iterations: Annotated[int, Meta(ge=1, le=100, description="a whole number from 1 to 100")] = 10
    tools: Annotated[tuple[Name, ...], Meta(max_length=50, description="a list of tools' names")] = ()
    capabilities: Annotated[
        dict[Name, Annotated[float, Meta(ge=0, le=1)]],
        Meta(min_length=1, description="names, each with how well it is done, from 0 to 1, as in planning: 0.95"),
    ]
    models: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...],
        Meta(description="a list of models to prefer, the best first"),
    ] = ()
    instructions: Annotated[
        str, Meta(min_length=1, max_length=8_000, description="1 to 8,000 characters: the expert's system prompt")
    ]
    keywords: Annotated[Signs, Meta(description="sure and hints, each with lists of keywords by language")] = Signs()
    source: str = ""


_FIELDS = {field.name: field for field in msgspec.structs.fields(Expert) if field.name != "source"}


def read_expert(path: Path, strategies: Collection[str] = STRATEGIES, tools: Collection[str] | None = None) -> Expert:
    """The expert of one file, whose tools are among these; None doesn't look at them.

    Raises InvalidInput: `expert.unreadable`, `expert.malformed`, `expert.invalid`.
    """
    document = _Document(path, _text(path))
    fields = document.fields()
    try:
        expert = _converted({**fields, "source": str(path)})
    except msgspec.ValidationError as problem:
        what, _, at = str(problem).partition(" - at `")
        raise document.invalid(what, _key_named(fields, at.rstrip("`") or "$")) from None
    if expert.name != path.stem:
        hint = f"Write name: {path.stem}, or rename the file."
        raise document.error("expert.invalid", f"the name is {expert.name!r}, the file's another.", hint, "$.name")
    named = [("strategy", "strategies", expert.strategy, strategies, "$.strategy")]
    if tools is not None:
        named += [("tool", "tools", tool, tools, f"$.tools[{n}]") for n, tool in enumerate(expert.tools)]
    for what, all_of_it, name, known, at in named:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"Did you mean {near[0]}?" if near else f"The {all_of_it} are {', '.join(known)}."
            raise document.error("expert.invalid", f"there is no {what} {name!r}.", hint, at)
    return expert


def _converted(fields: Any) -> Expert:
    return msgspec.convert(fields, Expert, strict=False)  # all values are text so far


def _key_named(fields: dict[str, Any], at: str) -> str:
    """A place as msgspec writes it, `$.keywords.sure[...]`, with the key that it leaves out: `$.keywords.sure.en`."""
    before, unnamed, after = at.partition("[...]")
    if unnamed:
        mapping: dict[str, Any] = reduce(getitem, before[2:].split("."), fields)
        for key, value in tuple(mapping.items()):
            mapping.clear()
            mapping[key] = value
            try:
                _converted(fields)
            except msgspec.ValidationError:
                return f"{before}.{key}{after}"
    return at


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as problem:
        raise InvalidInput(
            "expert.unreadable", f"{path} can't be read: {problem.strerror}.", "It should be a readable text file."
        ) from None
    if len(data) > LARGEST:
        raise InvalidInput("expert.malformed", f"{path} has more than {LARGEST:,} bytes.", "Shorten it.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data[: problem.start].count(b"\n") + 1
        raise InvalidInput("expert.malformed", f"{path}:{line}: not UTF-8.", "Save the file as UTF-8.") from None


class _Document:
    """A YAML file's values, all as text, and the line each stands on."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines: dict[str, int] = {"$": 1}
        # Event by event: composed into a tree, a deeply nested file would overflow the C parser's stack.
        loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # without libyaml, the same but slower
        self._events = cast("Iterator[yaml.Event]", yaml.parse(text, loader))  # pyright: ignore[reportUnknownMemberType]

    def fields(self) -> dict[str, Any]:
        """The top level. Raises InvalidInput `expert.malformed`."""
        try:
            event = self._next()
            while isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent):
                event = self._next()
            if isinstance(event, yaml.MappingStartEvent):
                return self._mapping("$")
        except yaml.MarkedYAMLError as problem:
            mark = problem.problem_mark or problem.context_mark
            self._lines["$"] = mark.line + 1 if mark else 1
            raise self._malformed(f"not valid YAML: {problem.problem}.") from None
        except yaml.YAMLError as problem:  # characters that YAML does not allow
            raise self._malformed(f"not valid YAML: {getattr(problem, 'reason', problem)}.") from None
        raise self._malformed("no fields, each on a line of its own.")

    def _next(self) -> yaml.Event:
        return next(self._events)

    def _value(self, event: yaml.Event, at: str) -> Any:
        self._lines[at] = event.start_mark.line + 1
        if isinstance(event, yaml.ScalarEvent):
            return str(event.value)
        if isinstance(event, yaml.AliasEvent) or at.count(".") + at.count("[") > _DEEPEST:
            raise self._malformed("an alias, or too deep: write the value out where it belongs.", at)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(at)
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._value(event, f"{at}[{len(items)}]"))
        return items

    def _mapping(self, at: str) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = event.value if isinstance(event, yaml.ScalarEvent) else ""
            below = f"{at}.{key}"
            self._lines[below] = event.start_mark.line + 1
            if not key or key in fields:
                raise self._malformed(f"{key!r} stands there twice." if key else "a key that is no word.", below)
            line = self._lines[below]
            fields[key] = self._value(self._next(), below)
            self._lines[below] = line
        return fields

    def _malformed(self, message: str, at: str = "$") -> InvalidInput:
        return self.error("expert.malformed", message, "A line looks like: title: Data analyst", at)

    def invalid(self, what: str, at: str) -> InvalidInput:
        """What msgspec says about the value at a place, with its line, and what is allowed there."""
        if missing := re.search(r"missing required field `(\w+)`", what):
            return self.error("expert.invalid", f"{missing[1]} is missing.", _allowed(missing[1]), at)
        if unknown := re.search(r"unknown field `(.+)`", what):
            at = f"{at}.{unknown[1]}"
            near = get_close_matches(unknown[1], _FIELDS, 1)
            hint = f"Did you mean {near[0]}?" if near else f"The fields are {', '.join(_FIELDS)}."
            hint = hint if at.count(".") == 1 else _allowed(at.split(".")[1])
            return self.error("expert.invalid", f"there is no field {unknown[1]!r}.", hint, at)
        field = at[2:].partition(".")[0].partition("[")[0]
        return self.error("expert.invalid", f"{at[2:] or 'it'}: {what[:1].lower()}{what[1:]}.", _allowed(field), at)

    def error(self, code: str, message: str, hint: str, at: str = "$") -> InvalidInput:
        """An error at the line of a place as msgspec writes it: `$.keywords.sure`."""
        while at not in self._lines:
            at = at[: max(at.rfind("."), at.rfind("["), 1)]
        return InvalidInput(code, f"{self._path}:{self._lines[at]}: {message}", hint)


def _allowed(field: str) -> str:
    """What a field may hold, as a sentence."""
    metas = getattr(_FIELDS[field].type, "__metadata__", ()) if field in _FIELDS else ()
    return next((f"{field} is {meta.description}." for meta in reversed(metas) if meta.description), "")
