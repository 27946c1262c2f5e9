"""Counting of votes."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


class Tally(NamedTuple):
    """What most say, and how many."""

    winner: str
    most: int


def tally(said: Sequence[str]) -> Tally:
    """Count answers."""
    counts = Counter(text.strip().casefold() for text in said)
    if not counts:
        return Tally("", 0)
    key, most = counts.most_common(1)[0]
    return Tally(next(text for text in said if text.strip().casefold() == key), most)
