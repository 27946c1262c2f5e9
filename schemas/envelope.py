"""The envelope around every event, and its form on a stream.

A stream entry has two fields a person can read: `type`, the event's name, and `event`, the envelope as JSON
(`attempt` is added when a retry puts it back). The decoder is chosen by `type`, so an entry is decoded once.
"""

from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec.structs import replace

from schemas.errors import InvalidInput
from schemas.events import CATALOGUE, Event
from schemas.plan import Limits, Moment, Trust

B_co = TypeVar("B_co", covariant=True)


class Envelope(msgspec.Struct, Generic[B_co], frozen=True, omit_defaults=True):
    """One event on its way.

    `id` identifies it for ever: derived from what caused it, so doing a thing again yields the same id. `cause` is
    the event it follows from ("" for the first). `traceparent` is the W3C context of the span that sent it, ""
    where it is not traced. `trust` labels the least trusted source of its content. `limits` are those of
    its run; what follows from it has the same.
    """

    id: str
    run: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    v: int
    at: Moment
    trust: Trust
    body: B_co
    cause: str = ""
    traceparent: str = ""
    limits: Limits | None = None


EVENT_BYTES = 4 * 1024 * 1024
"""An encoded event may have this size at most; larger things are put elsewhere, and named."""
MALFORMED = "event.malformed"
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding text that somebody else wrote may raise."""

_encode = msgspec.json.Encoder().encode


def encode(envelope: Envelope[Event]) -> bytes:
    """The `event` field of a stream entry."""
    return _encode(envelope)


@cache
def decoder(event: type[Event]) -> "Callable[[bytes], Envelope[Event]]":
    """A function that reads the `event` field of entries of one type; an older version is upgraded.

    It raises InvalidInput with code `event.malformed`, `event.too_large` or `event.newer_version`.
    """
    parse, version = msgspec.json.Decoder(Envelope[event]).decode, event.version

    def read(data: bytes) -> Envelope[Event]:
        if len(data) > EVENT_BYTES:
            raise too_large(event.__name__, len(data))
        try:
            envelope = parse(data)
        except UNREADABLE as problem:
            return _upgraded(event, data, problem)
        return envelope if envelope.v == version else _upgraded(event, data, None)

    return read


def decode(type_name: str, data: bytes) -> Envelope[Event]:
    """Read a stream entry of any type. Raises InvalidInput as `decoder` says, or with code `event.unknown_type`."""
    event = CATALOGUE.get(type_name)
    if event is None:
        raise InvalidInput(
            "event.unknown_type",
            f"No event type is called {type_name[:80]!r}.",
            "`victoria events` lists them.",
        )
    return decoder(event)(data)


def husk(data: bytes) -> Envelope[None] | None:
    """The envelope of an event that can't be read itself: whose it is; None where that can't be told either."""
    try:
        envelope: Envelope[Any] = msgspec.json.decode(data, type=Envelope[msgspec.Raw])
        return replace(envelope, body=None)
    except UNREADABLE:
        return None


def too_large(name: str, size: int) -> InvalidInput:
    """The error about an event above EVENT_BYTES."""
    return InvalidInput(
        "event.too_large",
        f"This {name} has {size:,} bytes; an event may have {EVENT_BYTES:,}.",
        "Put the bulk into a file and name the file.",
    )


def _upgraded(event: type[Event], data: bytes, problem: Exception | None) -> Envelope[Event]:
    """The slow path: entries of another version, or broken ones."""
    name = event.__name__
    try:
        old = msgspec.json.decode(data, type=Envelope[dict[str, Any]])
        if old.v > event.version:
            raise InvalidInput(
                "event.newer_version",
                f"{name} has version {old.v}; this program knows up to {event.version}.",
                "Upgrade this worker before its producers.",
            )
        if old.v == event.version and problem:
            raise problem
        fields = old.body
        for version in range(old.v, event.version):
            fields = _raised(event, version, fields)
        current: dict[str, Any] = {**msgspec.to_builtins(old), "v": event.version, "body": fields}
        return msgspec.convert(current, Envelope[event])
    except (*UNREADABLE, KeyError, TypeError) as cause:
        raise InvalidInput(MALFORMED, f"This is no {name}: {cause}", "`victoria events` shows its fields.") from cause


def _raised(event: type[Event], version: int, fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of one version as those of the next; an upgrade may stumble over what somebody else wrote."""
    try:
        return event.upgrades[version](fields)
    except Exception as problem:
        raise TypeError(f"version {version} can't be read: {type(problem).__name__} {problem}") from problem


def derived_id(*parts: str | int) -> str:
    """A stable 24-character id from what makes a thing the same thing: same parts, same id."""
    return blake2b("\x1f".join([str(part) for part in parts]).encode(), digest_size=12).hexdigest()
