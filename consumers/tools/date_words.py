"""The words and numbers of dates and times in three languages, each as what it may be; the words are in the .toml."""

import re
import tomllib
import unicodedata
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, cast

from consumers.words.keywords import Keywords, spans_of, words

YEARS = range(1970, 2200)
DAY = 24 * 60
"""Minutes."""

Item = dict[str, float]
"""What a word may be, by kinds as in the .toml; and of what is written in digits `number`, `hour`, `year`, `date`, its
ordinal, and `time`, minutes after midnight."""
UNKNOWN: Item = {}

_NUMBERED = re.compile(
    r"(?P<iso>(?<!\d)(\d{4})([-/.])(\d{1,2})\3(\d{1,2})(?!\d))"
    r"|(?P<dmy>(?<!\d)(\d{1,2})\.(\d{1,2})\.(\d{4})(?!\d))"
    r"|(?P<time>(?<!\d)(\d{1,2}):(\d{2})(?::\d{2})?(?!\d))"
    r"|(?P<number>\d{1,4}(?:[.,]\d{1,2})?(?!\d))"
)


class Place(NamedTuple):
    """A word or number in a text, and from where to where it stands."""

    item: Item
    start: int
    end: int


def items_of(text: str) -> list[Item]:
    """A text's words and numbers as what they may be; fillers are left out."""
    found = places(unicodedata.normalize("NFKC", text))
    return [place.item for place in found if "filler" not in place.item]


def places(text: str) -> Iterator[Place]:
    """Each word and number of a text."""
    at = 0
    for found in _NUMBERED.finditer(text):
        yield from _named(text, at, found.start())
        yield Place(_number(found), *found.span())
        at = found.end()
    yield from _named(text, at, len(text))


def _number(found: "re.Match[str]") -> Item:
    """What is written in digits."""
    try:
        if found["iso"]:
            return {"date": date(int(found[2]), int(found[4]), int(found[5])).toordinal()}
        if found["dmy"]:
            return {"date": date(int(found[9]), int(found[8]), int(found[7])).toordinal()}
    except ValueError:
        return UNKNOWN
    if found["time"]:
        return {"time": int(found[11]) * 60 + int(found[12]) if int(found[12]) < 60 else DAY}
    number = float(found["number"].replace(",", "."))
    kinds = {
        "number": number,
        "year": number if number in YEARS else -1.0,
        "hour": number if 12 < number < 24 else -1.0,
    }
    return {kind: value for kind, value in kinds.items() if value >= 0}


def _named(text: str, start: int, end: int) -> Iterator[Place]:
    """What the words between numbers may be."""
    spans = [(start + a, start + b) for a, b in spans_of(text[start:end])]
    said = ["".join(words(text[a:b])) for a, b in spans]
    at = 0
    for hit in _WORDS.find(said):
        yield from (Place(UNKNOWN, a, b) for a, b in spans[at : hit.at])
        at = hit.at + len(words(hit.keyword))
        span = spans[hit.at][0], spans[at - 1][1]
        meant = dict(hit.means)
        if "evening" in meant:
            yield Place({"day": meant["evening"]}, *span)
            yield Place({"part": 12.0}, *span)
        else:
            yield Place(meant, *span)
    yield from (Place(UNKNOWN, a, b) for a, b in spans[at:])


def _vocabulary() -> Keywords[tuple[str, float]]:
    listed = cast("dict[str, dict[str, Any]]", tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8")))
    return Keywords(
        (keyword, (kind, float(value)))
        for kind, meanings in listed.items()
        for value, keywords in meanings.items()
        for keyword in keywords
    )


_WORDS = _vocabulary()
