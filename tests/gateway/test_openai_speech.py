"""Which text of a run is told as its answer, whatever comes in whatever order."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http.openai.speech import ANEW, Speech
from schemas.events import AnswerProgressed
from schemas.plan import Plan, Step

ANSWER = Plan("simple", (Step("1", "answer", "x", how="answer"),))
THOUGHT = Plan("think", (Step("1", "think", "x", how="think", inner=True), Step("2", "answer", "x", how="answer")))
SWARM = Plan("swarm", (Step("1", "a", "x", how="answer"), Step("2", "b", "x", how="answer")), aggregate=True)
LIST = Plan("parallel", SWARM.steps)
LOOP = Plan("react", (Step("1", "act", "x", how="react"),))
VOTE = Plan("consensus", (Step("1", "vote", "x", how="vote"),), quorum=1)


def piece(text: str, offset: int = 0, step: str = "1", name: str = "answer") -> AnswerProgressed:
    return AnswerProgressed(effect=f"event/{name}", offset=offset, text=text, step=step)


@pytest.mark.parametrize(
    ("plan", "step", "name", "said"),
    [
        (ANSWER, "1", "answer", "Grey"),
        (ANSWER, "1", "answer.2", "Grey"),
        (ANSWER, "", "understand", ""),
        (THOUGHT, "1", "think", ""),
        (THOUGHT, "2", "answer", "Grey"),
        (SWARM, "1", "answer", ""),
        (SWARM, "", "fuse", "Grey"),
        (LIST, "1", "answer", ""),
        (LOOP, "1", "act-1", ""),
        (VOTE, "1", "vote", ""),
    ],
)
def test_only_what_will_be_the_answer_is_said(plan: Plan, step: str, name: str, said: str) -> None:
    speech = Speech()
    assert speech.plan(plan) == ""
    assert speech.piece(piece("Grey", 0, step, name)) == said
    assert said + speech.end("Grey, mostly.") == "Grey, mostly."


def test_pieces_that_come_before_the_plan_are_said_with_it() -> None:
    speech = Speech()
    assert speech.piece(piece("Grey ")) == ""
    assert speech.plan(ANSWER) == "Grey"
    assert speech.piece(piece("and blue", 5)) == " and blue"


def test_what_begins_anew_alike_goes_on_where_it_was_and_else_waits_for_the_end() -> None:
    speech = Speech()
    speech.plan(ANSWER)
    assert speech.piece(piece("Grey and")) == "Grey and"
    assert speech.piece(piece("Grey")) == ""
    assert speech.piece(piece(" and blue", 4)) == " blue"
    assert speech.piece(piece("Red")) == ""
    assert speech.end("Red, then.") == f"\n\n{ANEW}\n\nRed, then."


def test_after_a_gap_and_after_another_plan_nothing_is_said_before_the_end() -> None:
    speech = Speech()
    speech.plan(ANSWER)
    assert speech.piece(piece("Grey")) == "Grey"
    assert speech.piece(piece("blue", 9)) == ""
    assert speech.piece(piece(" and", 4)) == ""
    assert speech.end("Grey and blue") == " and blue"
    again = Speech()
    again.plan(ANSWER)
    again.plan(ANSWER)
    assert again.piece(piece("Grey")) == ""


@settings(deadline=None, max_examples=50)
@given(st.text(), st.lists(st.integers(0, 30), max_size=8))
def test_however_a_text_is_cut_it_is_said_once(text: str, cuts: list[int]) -> None:
    speech, said, places = Speech(), "", sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    speech.plan(ANSWER)
    for start, end in pairwise(places):
        said += speech.piece(piece(text[start:end], start))
    assert said + speech.end(text) == text.strip()
