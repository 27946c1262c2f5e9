"""The first place in which two values differ: what a replay shows."""

from typing import Any, NamedTuple, cast

import msgspec


class Place(NamedTuple):
    """Where two values differ, as in `plan.steps[0].title`, and what each has there; None where it has nothing."""

    field: str
    one: Any
    other: Any


def first(one: Any, other: Any, within: str = "") -> Place | None:
    """The first place in which two values that msgspec can encode differ, or None."""
    return _first(msgspec.to_builtins(one), msgspec.to_builtins(other), within)


def _first(one: object, other: object, path: str) -> Place | None:
    kinds = {type(one), type(other)}
    if kinds == {dict}:
        return _in_objects(cast("dict[str, Any]", one), cast("dict[str, Any]", other), path)
    if kinds <= {list, tuple}:
        return _in_lists(cast("list[Any]", one), cast("list[Any]", other), path)
    return None if one == other and len(kinds) == 1 else Place(path, one, other)


def _in_objects(one: dict[str, Any], other: dict[str, Any], path: str) -> Place | None:
    for key in dict.fromkeys((*one, *other)):
        where = f"{path}.{key}" if path else key
        if key not in one or key not in other:
            return Place(where, one.get(key), other.get(key))
        if found := _first(one[key], other[key], where):
            return found
    return None


def _in_lists(one: list[Any], other: list[Any], path: str) -> Place | None:
    for number, (left, right) in enumerate(zip(one, other, strict=False)):
        if found := _first(left, right, f"{path}[{number}]"):
            return found
    shorter = min(len(one), len(other))
    if len(one) == len(other):
        return None
    return Place(f"{path}[{shorter}]", *(each[shorter] if len(each) > shorter else None for each in (one, other)))
