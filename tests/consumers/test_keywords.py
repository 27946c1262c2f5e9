"""Keywords in a text: words, stems and phrases of any language."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.words.keywords import Keywords, Spelling, words

KEYWORDS = Keywords(
    [
        ("test", "qa"),
        ("unit test*", "unit"),
        ("проанализ*", "analysis"),
        ("план*", "plan"),
        ("планерка", "meeting"),
        ("路线图", "roadmap"),
        ("图", "picture"),
        ("next.js", "frontend"),
        ("o'clock", "time"),
        ("c", "language"),
    ]
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a test", ["qa"]),
        ("TEST!", ["qa"]),
        ("write unit tests", ["unit"]),
        ("a testament", []),
        ("unit of test", ["qa"]),
        ("Проанализируй план", ["analysis", "plan"]),
        ("планёрка", ["plan", "meeting"]),
        ("制定路线图和图", ["roadmap", "picture"]),
        ("用Next.js写", ["frontend"]),
        ("next, js", ["frontend"]),
        ("at ten o'clock", ["time"]),
        ("abc", []),
        ("", []),
    ],
)
def test_the_longest_keywords_are_found_in_their_order(text: str, found: list[str]) -> None:
    assert sorted(m for hit in KEYWORDS.find(words(text)) for m in hit.means) == sorted(found)


@given(st.text(alphabet="ab tesunitплан路线图 .,'\n", max_size=60))
def test_a_text_is_read_as_it_is_written_however_it_is_divided(text: str) -> None:
    hits = KEYWORDS.find(words(text))
    assert [hit.at for hit in hits] == sorted({hit.at for hit in hits})
    assert KEYWORDS.find(words(f"  {text.upper()}?!")) == hits


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("calender", "calendar"),
        ("calandar", "calendar"),
        ("clendar", "calendar"),
        ("calenndar", "calendar"),
        ("claendar", "calendar"),
        ("calendar", ""),
        ("colander", ""),
        ("alendar", ""),
        ("cal", ""),
        ("x" * 5_000, ""),
    ],
)
def test_one_wrong_letter_is_understood(written: str, meant: str) -> None:
    assert Spelling(["calendar", "cat"]).corrected(written) == meant
