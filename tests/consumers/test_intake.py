"""Goals are checked at the door: what is accepted can be carried by an event, and what is not gets a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.intake import GOAL_BYTES, goal_submitted
from schemas.envelope import decode
from schemas.errors import InvalidInput
from schemas.events import Exchange
from tests.consumers.events import encoded


def refused(goal: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as refusal:
        goal_submitted(goal)
    assert refusal.value.hint
    return refusal.value


@pytest.mark.parametrize("goal", ["", " ", "\n\t \r\n", "\u3000\u00a0"])
def test_a_goal_without_a_word_is_refused(goal: str) -> None:
    assert refused(goal).code == "goal.empty"


@pytest.mark.parametrize("character", ["x", "я", "中", "😀"])
def test_64_kib_of_utf_8_are_accepted_and_not_a_byte_more(character: str) -> None:
    goal = character * (GOAL_BYTES // len(character.encode()))
    goal += "x" * (GOAL_BYTES - len(goal.encode()))
    assert len(goal.encode()) == 65_536
    assert goal_submitted(goal).goal == goal
    assert refused(goal + "x").code == "goal.too_large"
    assert "65,537 bytes" in refused(goal + "x").message


def test_blanks_around_a_goal_neither_count_nor_stay() -> None:
    assert goal_submitted("  \n" + "x" * GOAL_BYTES + "\n" * 100).goal == "x" * GOAL_BYTES


def test_of_a_long_history_the_last_30_turns_are_kept_in_order() -> None:
    history = tuple(Exchange(f"question {number}", f"answer {number}") for number in range(45))
    assert goal_submitted("hi", history=history).history == history[15:]
    assert goal_submitted("hi", history=history[:30]).history == history[:30]


def test_the_project_and_the_session_come_through() -> None:
    event = goal_submitted("hi", "shop", "s-1")
    assert (event.project, event.session) == ("shop", "s-1")


BROKEN = "caf\udce9"
"""What Python makes of the Latin-1 bytes of "café" on a command line."""


def test_text_that_is_not_unicode_is_refused_wherever_it_stands() -> None:
    assert refused(BROKEN).code == "goal.encoding"
    for wrong in (
        {"project": BROKEN},
        {"session": BROKEN},
        {"history": (Exchange(BROKEN, "a"),)},
        {"history": (Exchange("q", BROKEN),)},
    ):
        with pytest.raises(InvalidInput, match=f"The {next(iter(wrong))} is not") as refusal:
            goal_submitted("hi", **wrong)  # pyright: ignore[reportArgumentType]  # one wrong part at a time
        assert refusal.value.code == "goal.encoding"


ANY = st.text(st.characters(exclude_categories=()))


@given(ANY, ANY, st.lists(st.builds(Exchange, ANY, ANY), max_size=2))
def test_whatever_is_accepted_can_be_carried_by_an_event(goal: str, session: str, history: list[Exchange]) -> None:
    try:
        event = goal_submitted(goal, session=session, history=tuple(history))
    except InvalidInput:
        return
    assert decode("GoalSubmitted", encoded(event)).body == event


def test_a_history_beyond_its_limit_is_refused_not_cut() -> None:
    fits = tuple(Exchange("q" * 4_000, "a" * 4_000) for _ in range(30))
    assert len(goal_submitted("goal", history=fits).history) == 30
    with pytest.raises(InvalidInput) as refusal:
        goal_submitted("goal", history=(Exchange("q", "a" * 300_000),))
    assert refusal.value.code == "history.too_large"
