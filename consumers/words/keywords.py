"""Keywords found in a text of any language, in one pass.

A keyword is a word (`pytest`), a stem (`проанализ*`), or several of these in a row (`roll back`). What stands between
words does not count, nor does case. Each Chinese character is a word of its own, since nothing stands between those.
Where keywords overlap, the longest that begins first is found, alone: "unit test" hides "test".
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

_HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_HAN}]|[^\W{_HAN}]+")
_LONGEST_WORD = 40
_SHORTEST_TYPO = 6
"""Letters of a word below which a slip of the finger is as likely another word."""


def words(text: str) -> list[str]:
    """A text's words as keywords know them: without case, `ё` as `е`."""
    return _WORD.findall(text.casefold().replace("ё", "е"))


def spans_of(text: str) -> list[tuple[int, int]]:
    """Where a text's words stand, as (start, end)."""
    return [found.span() for found in _WORD.finditer(text)]


class Hit(msgspec.Struct, Generic[T], frozen=True):
    """A keyword that was found, where (its first word's number), and what it stands for."""

    keyword: str
    at: int
    means: tuple[T, ...]


class _Node(Generic[T]):
    """What may come next after the words so far, and what these mean if nothing does."""

    __slots__ = ("keyword", "lengths", "means", "stems", "words")

    def __init__(self) -> None:
        self.words: dict[str, _Node[T]] = {}
        self.stems: dict[str, _Node[T]] = {}
        self.lengths: tuple[int, ...] = ()
        self.means: list[T] = []
        self.keyword = ""

    def step(self, word: str) -> "list[_Node[T]]":
        """What this word leads to: as itself, and as what stems begin with."""
        found = [self.words[word]] if word in self.words else []
        for length in self.lengths:
            if length > len(word):
                break
            if stem := self.stems.get(word[:length]):
                found.append(stem)
        return found


class Keywords(Generic[T]):
    """Keywords with what each stands for; one keyword may stand for several things."""

    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        self._root: _Node[T] = _Node()
        self.vocabulary: set[str] = set()
        """Every whole word of a keyword."""
        for keyword, meaning in entries:
            self._add(keyword, meaning)

    def find(self, text: Sequence[str]) -> list[Hit[T]]:
        """What is found in these words, in their order. The time is linear in their number."""
        hits: list[Hit[T]] = []
        at = 0
        while at < len(text):
            end, found = _longest(self._root, text, at)
            if found:
                means = tuple(dict.fromkeys(meaning for node in found for meaning in node.means))
                hits.append(Hit(found[0].keyword, at, means))
            at = max(end, at + 1)
        return hits

    def starts(self, word: str) -> bool:
        """Whether a keyword begins with this word."""
        return bool(self._root.step(word))

    def _add(self, keyword: str, meaning: T) -> None:
        node = self._root
        # A star belongs to the word before it, and is no word itself.
        for piece in keyword.split():
            *whole, last = words(piece) or [""]
            for word in whole:
                node = self._child(node.words, word)
            if last and piece.endswith("*"):
                parent, node = node, self._child(node.stems, last)
                parent.lengths = tuple(sorted({len(stem) for stem in parent.stems}))
            elif last:
                node = self._child(node.words, last)
                self.vocabulary.add(last)
        if node is not self._root:
            node.means.append(meaning)
            node.keyword = keyword

    def _child(self, children: dict[str, _Node[T]], word: str) -> _Node[T]:
        return children.setdefault(word, _Node())


def _longest(node: _Node[T], text: Sequence[str], at: int) -> tuple[int, list[_Node[T]]]:
    """Where the longest keyword that begins here ends, and what is found there."""
    best, found = at, [node] if node.means else []
    if at < len(text) and (node.words or node.stems):
        for child in node.step(text[at][:_LONGEST_WORD]):
            end, more = _longest(child, text, at + 1)
            if more and end > best:
                best, found = end, more
            elif more and end == best:
                found = [*found, *more]
    return best, found


class Spelling:
    """Words one slip of the finger away from a known one: a letter too many, too few, other, or swapped."""

    def __init__(self, known: Iterable[str]) -> None:
        self._near: dict[str, str] = {}
        self._known = {word for word in known if len(word) >= _SHORTEST_TYPO}
        for word in sorted(self._known):
            for form in _shortened(word):
                self._near.setdefault(form, word)

    def corrected(self, word: str) -> str:
        """The known word that was meant, or "" if there is none."""
        if not _SHORTEST_TYPO <= len(word) + 1 <= _LONGEST_WORD or word in self._known:
            return ""
        for form in _shortened(word):
            meant = self._near.get(form, "")
            if meant and meant[0] == word[0] and abs(len(meant) - len(word)) <= 1:
                return meant
        return ""


def _shortened(word: str) -> Iterator[str]:
    """The word, and the word without one of its letters but the first."""
    yield word
    for place in range(1, len(word)):
        yield word[:place] + word[place + 1 :]
