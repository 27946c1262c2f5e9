"""What is archived takes a fraction of its room, and comes back to the byte."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as some

from consumers.postgres.packing import PACKED, PLAIN, packed, unpacked
from schemas.envelope import Envelope, encode
from schemas.errors import InvalidInput
from tests.consumers.postgres.test_projector import NOW, SAID


@given(some.binary(max_size=2_000))
def test_anything_comes_back_to_the_byte(data: bytes) -> None:
    packing, smaller = packed(data)
    assert len(smaller) <= len(data)
    assert unpacked(packing, smaller) == data


def test_an_events_text_takes_less_than_half(record_property: Callable[[str, object], None]) -> None:
    texts = [
        encode(Envelope(f"{place:024x}", "r" * 32, 1, NOW, "user", event)) for place, (_, event) in enumerate(SAID)
    ]
    ratio = sum(map(len, texts)) / sum(len(packed(text)[1]) for text in texts)
    record_property("events are packed to", f"1/{ratio:.1f}")
    assert ratio > 2


def test_what_this_version_can_not_unpack_it_says() -> None:
    assert packed(b"x") == (PLAIN, b"x")
    with pytest.raises(InvalidInput, match="unknown here"):
        unpacked(PACKED + 1, b"x")
