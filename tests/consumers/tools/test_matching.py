"""Words are found in texts of any language, the best first."""

import time
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.tools.matching import ranked

TEXTS = (
    "Buy milk and two loaves of bread",
    "Купить молоко и хлеб",
    "记得买两盒牛奶和面包",
    "The meetings on Monday were long",
    "молодой человек",
    "ミルクを買う",
    "Ёлка стоит у окна",
    "naïve café",
)


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("MILK", 0), ("bread milk", 0), ("loaf loaves", 0), ("молока", 1), ("МОЛОКО", 1), ("хлеба", 1), ("牛奶", 2),
        ("买牛奶", 2), ("meeting", 3), ("monday meeting", 3), ("молодые", 4), ("ミルク", 5), ("елка", 6), ("café", 7),
        ("ｍｉｌｋ", 0),
    ],
)  # fmt: skip
def test_words_are_found_whatever_their_case_and_ending(words: str, first: int) -> None:
    assert ranked(words, TEXTS)[0] == first


@pytest.mark.parametrize(
    "words", ["", "   ", "*", "[a-z]", ".*", "mi", "(", "\\", "\x00", "?", "water", "вода", "水", "ilk"]
)
def test_what_is_not_there_is_not_found(words: str) -> None:
    assert ranked(words, TEXTS) == []


def test_more_words_the_very_word_and_rare_words_come_first() -> None:
    texts = ["red apple", "green apple", "apple pie", "red applet"]
    assert ranked("green apple", texts)[0] == 1
    assert ranked("apple", texts)[-1] == 3
    assert ranked("apple pie", texts)[0] == 2
    assert ranked("apple", ["apple", "apple"]) == [0, 1], "of equals the first"


@given(st.text(max_size=100), st.lists(st.text(max_size=100), max_size=8))
def test_whatever_is_looked_for_gives_indices_each_once(words: str, texts: list[str]) -> None:
    found = ranked(words, texts)
    assert len(set(found)) == len(found)
    assert set(found) <= set(range(len(texts)))


@given(st.lists(st.from_regex(r"[a-zа-я]{2,12}", fullmatch=True), min_size=1, max_size=10), st.randoms())
def test_each_word_of_a_text_finds_it(said: list[str], random: Random) -> None:
    assert ranked(random.choice(said), [" ".join(said)]) == [0]


def test_the_largest_collection_is_searched_in_seconds() -> None:
    texts = [f"слово{number} " * 400 for number in range(5_000)]
    started = time.process_time()
    assert ranked("слово1 слова2 молоко", texts)
    assert time.process_time() - started < 10
