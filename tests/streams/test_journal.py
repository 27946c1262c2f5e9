"""How a journal knows a request again."""

from streams.journal import request_hash


def test_the_same_request_has_the_same_hash_and_another_has_another() -> None:
    assert request_hash({"a": 1, "b": 2}) == request_hash({"b": 2, "a": 1})
    assert request_hash({"a": 1}) != request_hash({"a": 2})
