"""What a replay shows of two texts."""

import string

from hypothesis import given
from hypothesis import strategies as st

from gateway.diff import diff, near


def test_what_is_different_in_a_long_line_is_shown_wherever_it_is() -> None:
    long = "word " * 100
    shown = [str(text) for text in diff([f"{long}old"], [f"{long}new"])]
    assert shown[0].endswith("word old")
    assert shown[1].endswith("word new")
    shown = [str(text) for text in diff(["same", f"{long}old", "last"], ["same", f"{long}new", "last"])]
    assert [text.endswith((" old", " new")) for text in shown] == [False, False, True, True, False]


def test_short_lines_are_whole() -> None:
    assert [str(text) for text in diff(["one"], ["other"])] == ["- one", "+ other"]
    assert [str(text) for text in diff(["\x1b[31m"], [])] == ["- ·[31m"]


lines = st.lists(st.tuples(st.sampled_from("-+ @"), st.text(string.ascii_lowercase, max_size=80)).map("".join))


@given(lines, st.integers(20, 80))
def test_no_line_is_lost_and_none_gets_longer(found: list[str], room: int) -> None:
    shown = near(found, room)
    assert [text[:1] for text in shown] == [text[:1] for text in found]
    assert all(len(now) <= len(then) for now, then in zip(shown, found, strict=True))
