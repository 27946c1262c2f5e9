"""After whatever failures, a question is asked again in the way that may help, and never for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.advice import INVALID, NO_OTHER, TRIES, Next, Tried, advice, next_try

CODES = [
    *("model.unreachable", "model.engine", "model.timeout", "model.resting", "model.absent", "model.busy"),
    *("model.overflow", "model.missing", "model.cut", "model.broken", "model.library", "model.fetch"),
    *("model.refused", "model.late", "model.cancelled", "model.none", "model.of_tomorrow", INVALID, NO_OTHER),
]
tries = st.builds(Tried, st.sampled_from(["", "small", "large"]), st.sampled_from(CODES))


@pytest.mark.parametrize(
    ("code", "then"),
    [
        ("model.unreachable", "elsewhere"),
        ("model.engine", "elsewhere"),
        ("model.timeout", "elsewhere"),
        ("model.resting", "elsewhere"),
        ("model.absent", "elsewhere"),
        ("model.busy", "elsewhere"),
        ("model.missing", "elsewhere"),
        ("model.overflow", "larger model"),
        ("model.cut", "other model"),
        ("model.broken", "other model"),
        ("model.library", "other model"),
        ("model.fetch", "other model"),
        (INVALID, "repair"),
        ("model.refused", None),
        ("model.late", None),
        ("model.cancelled", None),
        (NO_OTHER, None),
        ("model.of_tomorrow", None),
    ],
)
def test_each_failure_says_how_to_ask_again(code: str, then: Next | None) -> None:
    assert next_try([Tried("small", code)]) == then


def test_two_models_may_answer_and_each_may_repair_once() -> None:
    said: list[Next | None] = []
    tried: list[Tried] = []
    for model in ("large", "large", "small", "small"):
        tried.append(Tried(model, INVALID))
        said.append(next_try(tried))
    assert said == ["repair", "other model", "repair", None]


def test_a_failure_between_does_not_give_a_model_more_repairs() -> None:
    tried = [Tried("large", INVALID), Tried("large", "model.engine"), Tried("large", INVALID)]
    assert next_try(tried) == "other model"


@pytest.mark.parametrize("code", CODES)
def test_where_there_was_no_model_to_ask_nobody_is_asked_again(code: str) -> None:
    assert next_try([Tried("small", "model.engine"), Tried("", code)]) is None


@given(st.lists(tries, min_size=TRIES, max_size=3 * TRIES))
def test_asking_ends(failures: list[Tried]) -> None:
    tried: list[Tried] = []
    for each in failures:
        tried.append(each)
        if next_try(tried) is None:
            break
    assert len(tried) <= TRIES


@given(st.text())
def test_no_code_is_too_strange_for_advice(code: str) -> None:
    assert advice(code) in ("next node", "back off", "larger model", "rescan", "other model", "no retry")
