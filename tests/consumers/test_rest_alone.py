"""What is left of a goal beside its calls: whether it can be answered without what they give."""

import pytest

from consumers.words.rules import recognise


@pytest.mark.parametrize(
    "goal",
    [
        "List the files in the folder consumers, then explain what an event-driven pipeline is",
        "List the files in the folder consumers. What is a pipeline?",
        "ls docs and src/, then tell me what Redis is",
        "ls docs, then explain how Redis streams work",
        "ls docs. Why do people like tea?",
        "ls docs. How does a queue differ from a stack?",
        "ls docs, then what is the difference between a list and a tuple?",
        "Покажи файлы в папке schemas, затем объясни, что такое событие",
        "Покажи файлы в папке schemas. Почему небо голубое?",
        "Покажи файлы в папке schemas и кратко объясни, как работает очередь",
        "列出 schemas 文件夹中的文件，然后解释什么是事件",
        "列出 schemas 文件夹中的文件。为什么天是蓝的？",
    ],
)
def test_a_question_that_has_nothing_to_do_with_the_listed_folder_stands_alone(goal: str) -> None:
    found = recognise(goal)
    assert found.calls
    assert found.rest_alone, found.rest


@pytest.mark.parametrize(
    "goal",
    [
        "ls docs",
        "ls docs, then summarise",
        "ls docs, then explain what it is",
        "ls docs, then explain what they are for",
        "ls docs, then explain what each is",
        "ls docs, then explain what these files do",
        "ls docs, then explain what files do",
        "ls docs and tell me what is missing",
        "ls docs and explain what is going on",
        "ls docs. What is the largest?",
        "ls docs. What is this?",
        "ls docs. Why are there so many?",
        "ls docs. Why is the result empty?",
        "ls docs, then explain what a contents page above shows",
        "ls docs, then explain how to read everything",
        "ls docs. How many?",
        "ls docs, then explain what docs is",
        "ls docs, then explain what a queue is and summarise",
        "ls docs, then explain what a queue is and then compare with what you found",
        "ls docs. What is a queue and summarise",
        "Покажи файлы в папке schemas. Что такое очередь и сравни",
        "ls envelopes, then explain what 'envelopes' are",
        "Read README.md and summarise it",
        "Read streams/stage.py, then explain what Policy is",
        "Read README.md, then explain what an event is",
        "ls docs and read README.md. What is an event?",
        "Покажи файлы в папке schemas и объясни, почему их так много",
        "Покажи файлы в папке schemas. Что такое это?",
        "Покажи файлы в папке schemas и объясни, что в них",
        "Покажи файлы в папке schemas. Почему папка пустая?",
        "Покажи файлы в папке schemas и объясни, почему там такие файлы",
        "Прочитай README.md и объясни, что такое событие",
        "列出 schemas 文件夹中的文件，然后解释它们",
        "列出 schemas 文件夹中的文件，然后解释什么是这些文件",
        "列出 schemas 文件夹中的文件。为什么内容这么多？",
        "列出 schemas 文件夹中的文件。什么是 schemas？",
        "What is an event?",
        "",
    ],
)
def test_a_rest_that_may_mean_what_the_calls_give_never_stands_alone(goal: str) -> None:
    found = recognise(goal)
    assert not found.rest_alone, found.rest
