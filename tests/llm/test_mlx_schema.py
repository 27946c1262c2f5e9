from typing import Any

import msgspec
import pytest

from llm.mlx_schema import closed


class Inner(msgspec.Struct):
    type: str
    properties: dict[str, int]


class Outer(msgspec.Struct):
    inner: Inner
    many: list[Inner]


def test_an_object_has_the_properties_its_schema_names_and_no_others() -> None:
    schema = closed(msgspec.json.schema(Outer))
    assert {name: part["additionalProperties"] for name, part in schema["$defs"].items()} == {
        "Inner": False,
        "Outer": False,
    }
    assert schema["$defs"]["Inner"]["properties"].keys() == {"type", "properties"}
    assert schema["$defs"]["Inner"]["properties"]["properties"]["additionalProperties"] == {"type": "integer"}


AS_THEY_ARE: list[Any] = [
    {"type": "object"},
    {"type": "object", "properties": {}, "additionalProperties": True},
    {"enum": [{"type": "object", "properties": {}}]},
    {"const": {"type": "object", "properties": {}}},
    True,
]


@pytest.mark.parametrize("schema", AS_THEY_ARE)
def test_what_a_schema_says_itself_and_plain_data_stay_as_they_are(schema: Any) -> None:
    assert closed(schema) == schema
