"""Goals are sorted by their words: into a category, and a kind."""

import pytest

from consumers.words.rules import recognise


@pytest.mark.parametrize(
    ("goal", "category", "confidence"),
    [
        ("What is an event?", "simple", 0.7),
        ("explain streams", "simple", 0.7),
        ("Why do consumers fail", "simple", 0.7),
        ("что такое поток", "simple", 0.7),
        ("Почему небо голубое?", "simple", 0.7),
        ("什么是事件？", "simple", 0.7),
        ("为什么天是蓝的", "simple", 0.7),
        ("find and fix the errors on page X", "multi_step", 0.5),
        ("errors on page X, find and fix", "multi_step", 0.5),
        ("Найди и исправь ошибки на странице X", "multi_step", 0.5),
        ("The page crashes", "investigate", 0.5),
        ("修复页面上的错误", "investigate", 0.5),
        ("Помоги с анализом данных", "simple", 0.3),
        ("", "simple", 0.3),
    ],
)
def test_a_goal_without_calls_is_sorted(goal: str, category: str, confidence: float) -> None:
    found = recognise(goal)
    assert (found.category, found.confidence) == (category, confidence)


@pytest.mark.parametrize(
    ("goal", "kind"),
    [
        ("ls schemas", "fast"),
        ("refactor the function and its tests", "coding"),
        ("исправь баг в коде", "coding"),
        ("Make a roadmap for the release", "planning"),
        ("составь план", "planning"),
        ("重启服务", "execution"),
        ("deploy it", "execution"),
        ("compare A with B", "reasoning"),
        ("Помоги с анализом данных", "reasoning"),
        ("a comprehensive online shop from scratch", "complex"),
        ("hello", "general"),
    ],
)
def test_the_kind_of_a_goal_follows_its_words(goal: str, kind: str) -> None:
    assert recognise(goal).kind == kind
