import re

from hypothesis import given
from hypothesis import strategies as st

from llm.spoken import Spoken, unfenced

PIECES = st.lists(st.sampled_from(["<think>", "</think>", "<th", "ink>", "</", "think>", " ", "\n", "a", "", "<"]))


@given(PIECES)
def test_however_a_text_is_cut_the_same_is_said(pieces: list[str]) -> None:
    text = "".join(pieces)
    said = Spoken()
    heard = "".join(said.add(piece) for piece in pieces) + said.end()
    assert heard == re.sub(r"\A\s*<think>.*?(</think>\s*|\Z)", "", text, flags=re.DOTALL)


@given(st.text())
def test_a_text_that_begins_with_no_thought_is_said_whole(text: str) -> None:
    said = Spoken()
    assert "".join(said.add(character) for character in "x" + text) + said.end() == "x" + text


def test_a_fence_is_taken_off_only_where_it_holds_everything() -> None:
    assert unfenced('```json\n{"a": 1}\n```\n') == '{"a": 1}'
    assert unfenced("```\n[1]\n```") == "[1]"
    for text in ("", '{"a": "```json\\n1\\n```"}', "so: ```json\n1\n```", "```json\n1"):
        assert unfenced(text) == text
