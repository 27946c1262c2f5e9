"""Answers that were given independently are counted: who agrees with whom, and what most say. No model is asked.

Two answers agree if nothing that matters differs: the same numbers in the same order, as many words that turn them
around, and the same other words, but for case, order, punctuation and words that say nothing. One may repeat more of
the question than the other; of longer ones most words are enough. Taking two different answers for one would be worse
than counting one too few.
"""

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from consumers.words.keywords import words

LONGEST = 4_000
"""Characters of an answer that are looked at."""
_LONG, _ALIKE = 5, 0.8
"""From so many words on, this part of all words of both has to be in both."""
_NUMBER = re.compile(r"(?<![A-Za-z0-9_.,])[-\u2212]?\d+(?:[.,\u00a0\u202f ']\d+)*")
_THOUSANDS = re.compile(r"(?<=\d)[,\u00a0\u202f '](?=\d{3}(?!\d))")


class Group(NamedTuple):
    """Voters who agree, by their places, and what the first of them said."""

    answer: str
    voters: tuple[int, ...]

    @property
    def votes(self) -> int:
        """How many they are."""
        return len(self.voters)


class _Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    filler: frozenset[str]
    turns: frozenset[str]


class _Said(NamedTuple):
    """What matters of an answer."""

    numbers: tuple[str, ...]
    turns: int
    words: frozenset[str]


_WORDS = msgspec.toml.decode(Path(__file__).with_suffix(".toml").read_bytes(), type=_Words)


def tally(answers: Sequence[str], question: str = "") -> tuple[Group, ...]:
    """The groups of agreeing answers, the largest first, of equal ones the one that was there first.

    `answers` are in the voters' order, "" from who gave none: that is in no group.
    """
    asked = frozenset(words(question[:LONGEST]))
    groups: list[tuple[_Said, list[int]]] = []
    for place, answer in enumerate(answers):
        if not answer.strip():
            continue
        said = _said(answer)
        group = next((voters for first, voters in groups if _agree(first, said, asked)), None)
        if group is None:
            groups.append((said, [place]))
        else:
            group.append(place)
    counted = sorted(groups, key=lambda group: (-len(group[1]), group[1][0]))
    return tuple(Group(answers[voters[0]], tuple(voters)) for _, voters in counted)


def _said(answer: str) -> _Said:
    text = unicodedata.normalize("NFKC", answer[:LONGEST])
    numbers = tuple(_number(found[0]) for found in _NUMBER.finditer(text))
    said = words(_NUMBER.sub(" ", text))
    telling = frozenset(said) - _WORDS.turns - _WORDS.filler
    left = telling if telling or numbers else frozenset(said or text.split())
    return _Said(numbers, sum(word in _WORDS.turns for word in said), left)


def _number(text: str) -> str:
    plain = _THOUSANDS.sub("", text).replace("\u2212", "-").replace(",", ".")
    try:
        return str(Decimal(plain).normalize())
    except ArithmeticError:  # a version, a date: what it is, it is
        return plain


def _agree(one: _Said, other: _Said, asked: frozenset[str]) -> bool:
    if one.numbers != other.numbers or one.turns != other.turns:
        return False
    both, all_ = one.words & other.words, one.words | other.words
    if both == all_ or (len(both) >= _ALIKE * len(all_) and min(len(one.words), len(other.words)) >= _LONG):
        return True
    # One says the same, and repeats words of the question. What is only those may be one of several it asks about.
    repeats = both in (one.words, other.words) and all_ - both <= asked
    return repeats and bool(one.numbers or both - asked)
