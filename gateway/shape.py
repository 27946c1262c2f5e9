"""Answers of a shape that only a JSON schema in a file tells."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec

from schemas.errors import InvalidInput
from schemas.inference import Question

SCHEMA_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Shaped(Question[Any]):
    """A question whose answer follows the JSON schema `shape`."""

    shape: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def schema(self) -> dict[str, Any]:
        """The given one."""
        return self.shape

    def parse(self, text: str) -> Any:
        """The answer as data. Raises msgspec.ValidationError, DecodeError."""
        found: Any = msgspec.json.decode(text)
        try:
            _validator(self.shape).validate(found)
        except ValueError as problem:
            raise msgspec.ValidationError(_said(problem)) from None
        return found


def read_schema(path: Path) -> dict[str, Any]:
    """The JSON schema in a file. Raises InvalidInput `schema.unreadable`, `schema.invalid`."""
    try:
        with path.open("rb") as file:
            text = file.read(SCHEMA_BYTES + 1)
    except OSError as problem:
        why = problem.strerror or problem
        raise InvalidInput("schema.unreadable", f"{path} can't be read: {why}.", "Name a JSON schema's file.") from None
    try:
        shape = msgspec.json.decode(text, type=dict[str, Any])
        _validator(shape)
    except (ValueError, RecursionError) as problem:
        why = _said(problem) if len(text) <= SCHEMA_BYTES else f"it has more than {SCHEMA_BYTES:,} bytes"
        hint = 'It looks like {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}.'
        raise InvalidInput("schema.invalid", f"{path} is no JSON schema: {why}.", hint) from None
    return shape


def _validator(shape: dict[str, Any]) -> Any:
    """Raises ValueError. What a schema refers to has to be in it: nothing is fetched."""
    return jsonschema_rs.validator_for(shape, retriever=_refused)


def _refused(uri: str) -> Any:
    raise ValueError("only references within the file are followed")


def _said(problem: Exception) -> str:
    """What is wrong, and where."""
    if not isinstance(problem, jsonschema_rs.ValidationError):
        return str(problem)
    where = "/".join(map(str, problem.instance_path))
    return problem.message + (f" (at {where})" if where else "")
