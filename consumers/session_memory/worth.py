"""What of an exchange is worth keeping, and under which tag, by the words of the user alone.

Rules know what is plain in English, Russian and Chinese, by the data in worth.toml. Where a sentence is about the user
or the project and no rule knows what it is, they are not sure, and a model may be asked.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from consumers.session_memory.items import TEXT_CHARACTERS, Tag
from consumers.words.keywords import words

Kind = Literal["hypothesis"] | Tag
LOOKED_AT = 4_000
"""Characters of what the user said."""
MOST = 5
"""Things worth keeping of one exchange."""
SHORTEST = 12
"""Characters of a sentence about which a model is asked; a Chinese one is as long with a third."""
_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|[\n\r]+")
_QUESTION = re.compile(r"[?？]\W*$|[吗呢]\W*$|什么|谁|哪[里个些儿]|怎么|多少")
_STEM = 4
_GROUNDED = 0.75
"""The part of a text's words that must stand where it is said to come from."""


class Found(msgspec.Struct, frozen=True):
    """Something worth keeping."""

    kind: Kind
    text: str


class Judged(msgspec.Struct, frozen=True):
    """What rules find; whether they are `sure` that there is no more."""

    found: tuple[Found, ...] = ()
    sure: bool = True


class Kept(msgspec.Struct, frozen=True):
    """A thing that a model would keep."""

    tag: Tag
    text: Annotated[str, msgspec.Meta(min_length=3, max_length=300)]


class Worth(msgspec.Struct, frozen=True):
    """What a model makes of an exchange."""

    keep: Annotated[tuple[Kept, ...], msgspec.Meta(max_length=3)]


class _Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    opening: tuple[str, ...]
    about: tuple[str, ...]
    passing: tuple[str, ...]
    tag: dict[Kind, tuple[str, ...]]


class _Rules:
    def __init__(self, data: _Data) -> None:
        self.opening = re.compile(f"(?:{'|'.join(data.opening)}){{1,3}}", re.IGNORECASE)
        self.about, self.passing = _begins(data.about), _begins(data.passing)
        self.tags: list[tuple[Kind, list[re.Pattern[str]]]] = [
            (kind, [re.compile(each, re.IGNORECASE) for each in some]) for kind, some in data.tag.items()
        ]


def _begins(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{each})" for each in patterns), re.IGNORECASE)


_RULES = _Rules(msgspec.toml.decode(Path(__file__).with_suffix(".toml").read_bytes(), type=_Data))


def by_rules(said: str) -> Judged:
    """What rules find in a user's words, of which the first 4,000 characters count."""
    found: list[Found] = []
    sure = True
    for raw in _END.split(said[:LOOKED_AT]):
        sentence = " ".join(raw.split())[:TEXT_CHARACTERS]
        if not sentence or _QUESTION.search(sentence):
            continue
        plain = _opened(sentence)
        if one := _found(plain):
            found.append(one)
        elif len(plain.encode()) >= SHORTEST and _RULES.about.match(plain) and not _RULES.passing.match(plain):
            sure = False
    return Judged(tuple(found[:MOST]), sure or len(found) >= MOST)


def _opened(sentence: str) -> str:
    """A sentence without what opens it; it is never nothing."""
    opening = _RULES.opening.match(sentence)
    return sentence[opening.end() :] or sentence if opening else sentence


def _found(sentence: str) -> Found | None:
    for kind, patterns in _RULES.tags:
        for pattern in patterns:
            if match := pattern.match(sentence):
                text = match.groupdict().get("text") or sentence
                return Found(kind, text.strip(" \t.。!！"))
    return None


def grounded(text: str, *sources: str) -> bool:
    """Whether most of a text's words stand in one of the sources, compared by their first letters."""
    mine = {word[:_STEM] for word in words(text)}
    for source in sources:
        theirs = {word[:_STEM] for word in words(source)}
        if mine and len(mine & theirs) >= _GROUNDED * len(mine):
            return True
    return False
