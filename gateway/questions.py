"""`victoria questions` and `victoria answer`: what steps ask people, and answering it."""

from typing import Annotated

import anyio
import typer

from consumers.questions import OpenQuestion, checked_answer
from deploy.loading import Loaded
from deploy.victoria import Victoria
from gateway.options import Json, configured, with_victoria
from gateway.screen import answer, emit, line, note
from schemas.errors import CouldNotStart, InvalidInput

WITHIN = 5.0
"""Seconds in which the stage `aggregate` takes an answer, if a worker serves it."""


@configured
def questions(loaded: Loaded, as_json: Json = False) -> None:
    """List the questions that wait for somebody's answer. Their runs hold no worker meanwhile.

    Example: victoria questions --json
    """

    async def work(victoria: Victoria) -> list[OpenQuestion]:
        return [each async for each in victoria.questions.waiting()]

    found = with_victoria(loaded, work)
    if as_json:
        emit(found)
        return
    for each in found:
        choices = f" ({' / '.join(each.asking.choices)})" if each.asking.choices else ""
        answer(each.asking.id)
        answer(f"  {line(each.asking.question, less=4 + len(choices))}{choices}")
        answer(f"  for step {each.step_id} of: {line(each.goal, less=20)}")
    if found:
        note('answer one: victoria answer QUESTION "..."', "dim")
    else:
        note("no question waits")


@configured
def reply(
    loaded: Loaded,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The id that `victoria questions` prints.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The answer, or one of the choices.")],
    as_json: Json = False,
) -> None:
    """Answer a question: its step goes on where it stopped.

    Example: victoria answer 019ab2c3d4e5f60718293a4b5c6d7e8f.1f2e3d4c5b6a "the second one"
    """

    async def work(victoria: Victoria) -> OpenQuestion:
        found = await victoria.questions.find(question)
        await victoria.answer(found, checked_answer(found.asking, text))
        with anyio.move_on_after(WITHIN):
            while True:
                try:
                    await victoria.questions.find(question)
                except InvalidInput:
                    return found
                await anyio.sleep(0.02)
        raise CouldNotStart(
            "question.not_taken",
            f"The answer to {question} is published, but no worker takes it yet.",
            "Start one: victoria up.",
        )

    found = with_victoria(loaded, work)
    if as_json:
        emit({"question_id": question, "run_id": found.run_id, "step_id": found.step_id})
    else:
        answer(f"{found.run_id} goes on with step {found.step_id}")
