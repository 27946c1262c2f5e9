"""Independent answers are counted without a model: alike ones together, different ones never."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runs.votes import tally

ANSWERS = st.lists(
    st.sampled_from(
        ["", " ", "Paris", "paris.", "The answer is Paris", "London", "42", "It is 42.", "not 42", "да", "不是"]
    )
    | st.text(max_size=40),
    max_size=9,
)


def agree(one: str, other: str, question: str = "") -> bool:
    """Whether two answers are the same one."""
    return len(tally((one, other), question)) == 1


@pytest.mark.parametrize(
    ("one", "other", "question"),
    [
        ("Paris", "The answer is Paris.", ""),
        ("Paris", "The capital of France is Paris.", "What is the capital of France?"),
        ("42", "It is 42.", ""),
        ("42.0", "42", ""),
        ("1,000", "1000", ""),
        ("3,14", "3.14", ""),
        ("-5", "−5", ""),
        ("5", "5 apples", "How many apples?"),
        ("x = 4", "4", "What is x?"),
        ("Да", "да!", ""),
        ("Ответ: 7", "7", ""),
        ("北京", "答案是北京。", ""),
        ("答案是42", "42", ""),
        ("No, it is not safe", "not safe, no", ""),
        (
            "Use streams because consumer groups keep pending entries until acknowledged",
            "Use streams because consumer groups keep all pending entries until acknowledged",
            "",
        ),
    ],
)
def test_the_same_answer_in_other_words_is_one_vote_more(one: str, other: str, question: str) -> None:
    assert agree(one, other, question)
    assert agree(other, one, question)


@pytest.mark.parametrize(
    ("one", "other", "question"),
    [
        ("Paris", "London", ""),
        ("The capital of France is Paris", "The capital of France is London", ""),
        ("It is safe", "It is not safe", ""),
        ("Yes", "No", ""),
        ("是", "不是", ""),
        ("Можно", "Нельзя", ""),
        ("42", "43", ""),
        ("5", "-5", ""),
        ("3.14", "314", ""),
        ("A", "B", ""),
        ("+", "-", ""),
        ("Redis", "Kafka", "Is Redis or Kafka better?"),
        ("A won 3:1", "B won 3:1", "Did A or B win 3:1?"),
        ("Redis is the best choice", "Kafka is the best choice", "Redis or Kafka?"),
        ("B, C", "B", "Which of A, B and C are primes?"),
        ("Deploy on Monday and tell the whole support team", "Deploy on Friday and tell the whole sales team", ""),
    ],
)
def test_answers_that_differ_in_what_matters_are_never_counted_together(one: str, other: str, question: str) -> None:
    assert not agree(one, other, question)
    assert not agree(other, one, question)


def test_the_largest_group_wins_and_of_equal_ones_the_first() -> None:
    groups = tally(["London", "Paris", "", "paris", "Rome"])
    assert [(group.answer, group.voters, group.votes) for group in groups] == [
        ("Paris", (1, 3), 2),
        ("London", (0,), 1),
        ("Rome", (4,), 1),
    ]
    assert tally([]) == tally(["", "\n"]) == ()


@given(ANSWERS, st.text(max_size=40))
def test_every_voter_who_said_something_is_in_exactly_one_group(answers: list[str], question: str) -> None:
    groups = tally(answers, question)
    voters = [voter for group in groups for voter in group.voters]
    assert sorted(voters) == [place for place, answer in enumerate(answers) if answer.strip()]
    for group in groups:
        assert group.answer == answers[group.voters[0]]
        assert list(group.voters) == sorted(group.voters)
        assert all(agree(group.answer, answers[voter], question) for voter in group.voters)


@given(ANSWERS, st.text(max_size=40))
def test_groups_come_by_size_and_then_by_who_spoke_first(answers: list[str], question: str) -> None:
    order = [(-group.votes, group.voters[0]) for group in tally(answers, question)]
    assert order == sorted(order)


@given(st.text(min_size=1, max_size=200), st.text(max_size=40), st.integers(2, 5))
def test_who_says_the_same_agrees(answer: str, question: str, count: int) -> None:
    groups = tally([answer] * count, question)
    assert [group.votes for group in groups] == ([count] if answer.strip() else [])


@given(ANSWERS)
def test_a_vote_more_never_makes_another_group_smaller(answers: list[str]) -> None:
    before = {group.answer: group.votes for group in tally(answers)}
    after = {group.answer: group.votes for group in tally([*answers, "Paris"])}
    assert all(after[answer] >= votes for answer, votes in before.items())


@given(st.text(), st.text())
def test_agreeing_is_mutual(one: str, other: str) -> None:
    assert agree(one, other) == agree(other, one)
