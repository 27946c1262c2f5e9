"""Texts that words are found in, the best first, in any language.

Words match whatever their case and ending; where a script has no spaces, pairs of characters do. A word that few texts
have counts for more.
"""

import re
from collections.abc import Sequence
from itertools import takewhile
from math import log
from unicodedata import normalize

_DENSE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
"""Scripts without spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
_PART = re.compile(rf"[{_DENSE}]+|[^\W_{_DENSE}]+")
MOST = 16
"""Words that are looked for; further ones are left out."""
_LIKE = 0.65
"""How much of the longer of two words must be their common beginning."""


def folded(text: str) -> str:
    """A text without what does not count: case, forms of the same character, `ё` for `е`."""
    return normalize("NFKC", text).casefold().replace("ё", "е")


def ranked(words: str, texts: Sequence[str]) -> list[int]:
    """The indices of the texts in which at least one of the words is found, the best first; of equals the first."""
    terms = [_term(part) for part in _parts(folded(words))[:MOST]]
    scores = [0.0] * len(texts)
    prepared = [folded(text) for text in texts]
    for term in terms:
        likeness = [term.likeness(text) for text in prepared]
        having = sum(1 for each in likeness if each)
        for index, like in enumerate(likeness):
            scores[index] += like * log(1 + len(texts) / having) if like else 0
    found = [index for index, score in enumerate(scores) if score]
    return sorted(found, key=lambda index: -scores[index])


class _Dense:
    """A pair of characters, or a single one, wherever it stands."""

    def __init__(self, characters: str) -> None:
        self._characters = characters

    def likeness(self, text: str) -> float:
        """1 if it is there."""
        return float(self._characters in text)


class _Word:
    """A word, and if it has more than two letters also with another ending, or as the beginning of a longer one."""

    def __init__(self, word: str) -> None:
        self._word = word
        self._stem = word[: max(3, len(word) - 2)] if len(word) > 4 else word
        self._alike = re.compile(rf"(?<![^\W_]){re.escape(self._stem)}[^\W_]*")
        self._known: dict[str, float] = {}

    def likeness(self, text: str) -> float:
        """From 0, not there, to 1, the very word."""
        if self._stem not in text:  # far quicker than the expression
            return 0.0
        return max(map(self._like, set(self._alike.findall(text))), default=0.0)

    def _like(self, word: str) -> float:
        if word not in self._known:
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(word, self._word, strict=False)))
            begins, longer = shared == len(self._word), max(len(word), len(self._word))
            alike = len(self._word) > 2 and (begins or shared >= _LIKE * longer)
            self._known[word] = 1.0 if word == self._word else 0.6 if alike else 0.0
        return self._known[word]


def _term(part: str) -> _Dense | _Word:
    return _Dense(part) if re.match(f"[{_DENSE}]", part) else _Word(part)


def _parts(text: str) -> list[str]:
    """Words, and pairs of neighbouring characters where a script has no spaces; each once."""
    parts: dict[str, None] = {}
    for part in _PART.findall(text):
        pairs = [part[at : at + 2] for at in range(max(1, len(part) - 1))] if re.match(f"[{_DENSE}]", part) else [part]
        parts |= dict.fromkeys(pairs)
    return list(parts)
