"""A session's memory as a value: items in the order in which they came, and never more bytes than it may have.

Only pure functions. The size of a memory is that of what is stored: JSON in UTF-8.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal, get_args

import msgspec
from msgspec.structs import replace

from schemas.plan import Trust

Tag = Literal["remember", "decision", "preference", "fact"]
TAGS: tuple[Tag, ...] = get_args(Tag)
"""What is dropped last comes first: what the user asked to have remembered."""
TEXT_CHARACTERS = 500
"""Of one item."""
SHORTEST = 16
"""Characters of a text below which cutting it leaves nothing worth having."""

_encode = msgspec.json.Encoder().encode


class Item(msgspec.Struct, frozen=True, array_like=True):
    """One thing worth keeping. `trust` says whose words it is, `source` where they come from, as `run:ID`."""

    tag: Tag
    text: str
    trust: Trust = "user"
    source: str = ""


Items = tuple[Item, ...]


def encoded(items: Items) -> bytes:
    """A memory as it is stored."""
    return _encode(items)


def decoded(data: bytes) -> Items:
    """A memory as it was stored. Raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=Items)


def size(items: Items) -> int:
    """Bytes of a memory as it is stored."""
    return len(encoded(items))


def item(tag: Tag, text: str, trust: Trust, source: str = "") -> Item:
    """An item of one line, however the text is laid out."""
    return Item(tag, " ".join(text.split())[:TEXT_CHARACTERS].rstrip(), trust, source)


def joined(known: Items, new: Sequence[Item]) -> Items:
    """A memory with what is new to it behind. What it has already is not said twice."""
    said = {each.text.casefold() for each in known}
    added: list[Item] = []
    for each in new:
        if each.text and each.text.casefold() not in said:
            said.add(each.text.casefold())
            added.append(each)
    return (*known, *added)


def trimmed(items: Items, limit: int) -> Items:
    """What a memory of at most `limit` bytes has room for: higher tags before lower ones, of one tag the newest first.

    The first item that has no room is cut, if that leaves enough of it, and nothing of what comes behind it is taken.
    The order stays. The smallest memory, without items, has 2 bytes.
    """
    if size(items) <= limit:
        return items
    wanted = sorted(range(len(items)), key=lambda place: (TAGS.index(items[place].tag), -place))
    left, taken = limit - 1, dict[int, Item]()  # of n items the brackets and commas are n + 1 bytes
    for place in wanted:
        cost = len(_encode(items[place])) + 1
        if cost > left:
            if short := _cut(items[place], left - 1):
                taken[place] = short
            break
        taken[place] = items[place]
        left -= cost
    return tuple(taken[place] for place in sorted(taken))


def _cut(whole: Item, room: int) -> Item | None:
    """An item whose text is cut so that it has at most `room` bytes; None where too little would be left."""

    def cost(characters: int) -> int:
        return len(_encode(replace(whole, text=whole.text[:characters])))

    characters = bisect_right(range(len(whole.text)), room, key=cost) - 1
    return replace(whole, text=whole.text[:characters]) if characters >= SHORTEST else None


def told(items: Items, limit: int) -> str:
    """A memory for prompts: a line for each of the items that `limit` bytes have room for, with whose words it is."""
    return "\n".join(f"[{each.tag}; trust: {each.trust}] {each.text}" for each in trimmed(items, limit))
