"""What a person answers is one of the choices, where there are any, and bounded."""

import pytest

from consumers.questions import LONGEST, agrees, checked_answer, run_of
from consumers.runs.state import Asking
from schemas.errors import InvalidInput

FREE, CHOICE = Asking("run.q", "Which?"), Asking("run.q", "Which?", ("Page X", "Страница Y"))


@pytest.mark.parametrize(
    ("asking", "answer", "taken"),
    [
        (FREE, " as you like\n", "as you like"),
        (CHOICE, "page x", "Page X"),
        (CHOICE, " СТРАНИЦА Y ", "Страница Y"),
        (FREE, "x" * LONGEST, "x" * LONGEST),
    ],
)
def test_an_answer_is_taken_as_its_choice_is_written(asking: Asking, answer: str, taken: str) -> None:
    assert checked_answer(asking, answer) == taken


@pytest.mark.parametrize(
    ("asking", "answer", "code"),
    [
        (FREE, "", "answer.empty"),
        (CHOICE, " \n", "answer.empty"),
        (CHOICE, "Page Z", "answer.choice"),
        (CHOICE, "Page", "answer.choice"),
        (FREE, "x" * (LONGEST + 1), "answer.too_large"),
    ],
)
def test_what_is_no_answer_is_refused_with_a_hint(asking: Asking, answer: str, code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_answer(asking, answer)
    assert refused.value.code == code
    assert refused.value.hint


def test_only_the_plain_word_agrees() -> None:
    assert [agrees(reply) for reply in ("yes", " YES\n", "y", "yes!", "no", "")] == [True, True, *[False] * 4]


def test_a_questions_id_names_its_run() -> None:
    assert [run_of(id_) for id_ in ("run-1.abc", "my.run.abc", "abc", "")] == ["run-1", "my.run", "", ""]
