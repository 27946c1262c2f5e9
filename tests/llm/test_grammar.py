"""What engines can't make a grammar of is left out of a schema, and nothing else."""

from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from llm.grammar import grammatical, inlined


class Named(msgspec.Struct):
    """A property may be called anything."""

    pattern: str
    format: int
    items: bool = False


@pytest.mark.parametrize(
    "type_",
    [
        Annotated[str, Meta(pattern=r"\d+")],
        Annotated[str, Meta(pattern=r"^\d{3}$")],
        Annotated[str, Meta(pattern=r"^(?!ab)[a-z]{2}$")],
        Annotated[str, Meta(pattern=r"^a\Z")],
        Annotated[str, Meta(pattern=r"[a-z]")],
        Decimal,
    ],
)
def test_what_not_every_engine_reads_is_left_out(type_: Any) -> None:
    assert grammatical(msgspec.json.schema(type_)) == {"type": "string"}


def test_a_tuple_keeps_its_length() -> None:
    schema = grammatical(msgspec.json.schema(tuple[int, bool]))
    parts = [{"type": "integer"}, {"type": "boolean"}]
    assert schema == {"type": "array", "minItems": 2, "maxItems": 2, "prefixItems": parts}


@pytest.mark.parametrize(
    "schema",
    [
        msgspec.json.schema(Named),
        msgspec.json.schema(dict[str, list[Named] | None]),
        msgspec.json.schema(Annotated[str, Meta(pattern="^[A-Z]{2}-[0-9]+$", max_length=9)]),
        {"enum": [{"pattern": "\\d", "format": "x", "items": False}]},
        {"type": "string", "format": "date-time"},
    ],
)
def test_all_else_stays(schema: dict[str, Any]) -> None:
    assert grammatical(schema) == schema


def test_a_schema_names_nothing_elsewhere() -> None:
    part = {"type": "object", "properties": {"b": {"$ref": "#/$defs/B"}}}
    schema = {"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/B"}]}, "B": part}}
    assert inlined(schema) == {"anyOf": [{"type": "object", "properties": {"b": {}}}]}
    plain = msgspec.json.schema(dict[str, int])
    assert inlined(plain) == plain
