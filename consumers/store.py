"""The small interface behind which records live that outlast runs: notes, entries of a calendar.

A store belongs to one project. Which server keeps it is the implementation's matter; what tools know is here.
"""

from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b
from typing import ClassVar, Protocol, TypeVar

import msgspec

from schemas.errors import ToolRefused
from schemas.plan import Moment

LARGEST = 32 * 1024
"""Bytes of one record in JSON."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of what is kept. A subclass is a collection of its own, `collection` its name, at most `most` records.

    `id` names a record in its collection; `at` is the moment by which it is found.
    """

    collection: ClassVar[str]
    most: ClassVar[int] = 10_000

    id: str
    at: Moment


T = TypeVar("T", bound=Record)


class Store(Protocol):
    """The records of one project. All methods raise NotReachable while the server is away."""

    async def add(self, record: Record) -> bool:
        """Keep a record unless there is one with its id already; whether there was none.

        Raises ToolRefused `store.full`, `store.too_large`.
        """
        ...

    async def replace(self, record: Record) -> bool:
        """Keep a record in place of the one with its id, if there is one; whether there was.

        Raises ToolRefused `store.too_large`.
        """
        ...

    async def read(self, kind: type[T], record_id: str) -> T | None:
        """The record of that id, if there is one. Raises ToolRefused `store.unreadable`."""
        ...

    async def remove(self, kind: type[Record], record_id: str) -> bool:
        """Remove the record of that id; whether there was one."""
        ...

    async def scan(self, kind: type[T], since: datetime | None = None, until: datetime | None = None) -> list[T]:
        """The records from `since` on and before `until`, the earliest first. What can't be read is left out."""
        ...


Stores = Callable[[str], Store]
"""The store of a project."""


def id_of(key: str) -> str:
    """The id of the record that the call with this key makes: ten letters and digits, the same whenever it is done."""
    if not key:
        raise ValueError("a record can't be made without the key of its call")
    number = int.from_bytes(blake2b(key.encode(), digest_size=8).digest())
    return "".join(_LETTERS[number >> shift & 31] for shift in range(45, -1, -5))


_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
"""Those that are not taken for one another, as Crockford's base 32 has them."""


def encoded(record: Record) -> bytes:
    """A record as JSON. Raises ToolRefused `store.too_large`."""
    data = msgspec.json.encode(record)
    if len(data) > LARGEST:
        raise ToolRefused("store.too_large", f"That has more than {LARGEST:,} bytes.", "Shorten it, or make it two.")
    return data


def full(kind: type[Record]) -> ToolRefused:
    """What to raise where a collection has as many records as it may."""
    return ToolRefused(
        "store.full",
        f"There are {kind.most:,} {kind.collection} already, which is as many as there may be.",
        "Delete what is not needed any more.",
    )


def unreadable(record_id: str, problem: Exception) -> ToolRefused:
    """What to raise where what is kept is no record."""
    return ToolRefused(
        "store.unreadable", f"What is kept as {record_id[:40]!r} can't be read: {problem}.", "Delete it."
    )
