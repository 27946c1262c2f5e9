"""A model's restatement is kept where it says what the goal says."""

import pytest

from consumers.words.faithful import faithful


@pytest.mark.parametrize(
    ("goal", "restated"),
    [
        ("Show me the errors on the login page and fix them", "Find and fix the errors on the login page."),
        ("Найди ошибки на странице входа и исправь", "Найти и исправить ошибки на странице входа."),
        ("找出登录页面上的错误并修复", "查找并修复登录页面的错误。"),
        ("Summarise README.md", "Write a summary of README.md."),
        ("do not delete the file 'a b.txt'", "Keep the file 'a b.txt': it must not be deleted."),
        ("2+2?", "Compute 2+2."),
        ("Explain what consumers/topology.py does", "Explain what the file consumers/topology.py does."),
    ],
)
def test_a_faithful_restatement_is_kept(goal: str, restated: str) -> None:
    assert faithful(goal, restated)


@pytest.mark.parametrize(
    ("goal", "restated"),
    [
        ("Fix the login page", ""),
        ("Fix the login page", "  \n"),
        ("Fix the login page", "The weather is nice today."),
        ("Fix the login page", "Fix the login page. " * 3),
        ("Fix the login page", "Fix the login page " + "very " * 100),
        ("Fix the login page", "修复登录页面"),
        ("Исправь страницу входа", "Fix the login page."),
        ("找出登录页面上的错误", "Find the errors on the login page."),
        ("找出登录页面上的错误", "今天天气很好"),
        ("Summarise README.md for me", "Summarise the document for me."),
        ("Explain 'blue green' deployment", "Explain deployment of green and blue things."),
        ("Do not delete the old logs", "Delete the old logs."),
        ("Удали старые логи", "Не удаляй старые логи."),
        ("不要删除旧日志", "删除旧日志"),
    ],
)
def test_a_restatement_that_changed_the_meaning_is_rejected(goal: str, restated: str) -> None:
    assert not faithful(goal, restated)


def test_a_long_goal_may_be_summed_up() -> None:
    goal = "Fix the login page. " + " ".join(str(1000 + number) for number in range(300))
    assert not faithful(goal, "Fix the page.")
    assert faithful(
        "Fix the login page. " + "Traceback line again. " * 200, "Fix the login page and its traceback line."
    )


@pytest.mark.parametrize(
    "goal",
    [
        "list the files in schemas",
        "show the contents of directory llm/prompts",
        "what is in the folder schemas",
        "List the files in the project",
        "ls ~",
        "Please read ./docs/a/b.md.",
        "Read “my notes.txt”.",
        "show me the contents of README.md",
    ],
)
def test_a_goal_is_faithful_to_itself(goal: str) -> None:
    assert faithful(goal, goal)
