"""The part of a JSON schema that every engine can make a grammar of.

Engines hold a model to a schema by a grammar, and each stumbles over something: a regular expression it can't read ends
a whole Ollama server (0.17), `"items": false` is an error to llama.cpp, a format unknown to llguidance. What is left
out here is a wish to the model, which has the whole schema in its prompt; whoever asked checks the answer by all of it.
"""

import re
from typing import Any, cast

_DATA = ("const", "default", "enum", "examples")
_NAMED = ("properties", "$defs")
"""Below these, keys are names."""
_FORMATS = ("date", "date-time", "time", "uuid")
_PLAIN = re.compile(r"\^(?:(?:[A-Za-z0-9_ -]|\[\^?[A-Za-z0-9_ -]+\])(?:[*+?]|\{\d+(?:,\d*)?\})?)*\$")
"""Patterns of characters and classes of them, from beginning to end: these are read alike everywhere."""


def grammatical(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without what some engine's grammars lack."""
    return {
        key: value
        if key in _DATA
        else {name: _part(each) for name, each in cast("dict[str, Any]", value).items()}
        if key in _NAMED
        else _part(value)
        for key, value in schema.items()
        if not _is_lost(key, value)
    }


def _part(node: Any) -> Any:
    if isinstance(node, dict):
        return grammatical(cast("dict[str, Any]", node))
    if isinstance(node, list):
        return [_part(each) for each in cast("list[Any]", node)]
    return node


def _is_lost(key: str, value: Any) -> bool:
    match key:
        case "pattern":
            return not _PLAIN.fullmatch(value)
        case "format":
            return value not in _FORMATS
        case "items":
            return value is False  # after `prefixItems`, where `maxItems` says the same
        case _:
            return False


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with each `$ref` to its `$defs` replaced by what it names; a type inside itself becomes anything.

    Ollama 0.17 takes a `$ref` below the root for "anything", without a word.
    """
    defs: dict[str, Any] = schema.get("$defs", {})

    def resolve(part: Any, inside: tuple[str, ...]) -> Any:
        match part:
            case {"$ref": str(ref)}:
                name = ref.removeprefix("#/$defs/")
                return {} if name in inside else resolve(defs.get(name, {}), (*inside, name))
            case dict():
                fields = cast("dict[str, Any]", part)
                return {key: resolve(value, inside) for key, value in fields.items() if key != "$defs"}
            case list():
                return [resolve(each, inside) for each in cast("list[Any]", part)]
            case _:
                return part

    return resolve(schema, ())
