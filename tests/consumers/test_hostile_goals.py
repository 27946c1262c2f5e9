"""Whatever somebody writes as a goal: the rules neither raise nor stall."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.tools.registry import BUILT_IN
from consumers.words.faithful import faithful
from consumers.words.rules import recognise


@given(st.text())
def test_no_text_raises(text: str) -> None:
    found = recognise(text)
    assert 0 <= found.confidence <= 1
    assert bool(found.calls) == (found.confidence >= 0.8)
    for call in found.calls:
        BUILT_IN.parse(call)
    faithful(text, found.restated)


WORDS = [
    "list",
    "the files",
    "in",
    "folder",
    "read",
    "a.md",
    "src/",
    "'a b.md'",
    "«",
    "»",
    '"',
    ",",
    "and",
    "then",
    ".",
    "..",
]
WORDS_OF_OTHERS = [
    "покажи",
    "файлы",
    "в папке",
    "и",
    "затем",
    "列出",
    "文件夹",
    "中的文件",
    "读取",
    "并",
    "\n",
    "\ue000",
    "~",
    "please",
    "-",
]


@given(st.lists(st.sampled_from(WORDS + WORDS_OF_OTHERS), max_size=30).map(" ".join), st.text(max_size=50))
def test_no_mixture_of_known_words_raises(goal: str, other: str) -> None:
    for call in recognise(goal).calls:
        BUILT_IN.parse(call)
    recognise(goal + other)
    faithful(goal, other)
    assert isinstance(faithful(goal, goal), bool)


HOSTILE = [
    "list ", '"', "'", "а", "a", " ", "\n", ".", "/", "./", "../", ",", "and ", "then, ", "please ", "read a.md and ",
    "list the files in ", "'a'", "«", "«а»", "的", "列出", "并", "a.", "a/", "\ue000", "don't ", "! ", "?", "what ",
    "find ", "list the files in the folder ", "read '", "a.b/", "then", "。", "make a note: ", "find my notes about ",
    "remind me tomorrow at 9:00 to ", "schedule a meeting with ", "tomorrow ", "15:00 ", "and Ann ", "запиши: ",
    "напомни завтра ", "что у меня ", "明天", "明天下午三点提醒我", "记一下：", "安排", "\uf000",
]  # fmt: skip


@pytest.mark.parametrize("size", [390, 1_000, 65_536])
@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("end", ["", "x"])
def test_hostile_texts_take_no_time(piece: str, size: int, end: str) -> None:
    text = (piece * size)[: size - 1] + end
    took = min(_seconds(text) for _ in range(3))
    assert took < 0.05


def _seconds(text: str) -> float:
    """Of the processor, whatever else it does meanwhile."""
    begun = time.process_time()
    recognise(text)
    faithful(text, text)
    return time.process_time() - begun
