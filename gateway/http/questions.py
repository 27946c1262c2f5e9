"""Questions of steps over HTTP: those that wait, and answering one."""

from datetime import datetime
from typing import Annotated

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from consumers.questions import MOST, OpenQuestion, checked_answer
from gateway.http.bodies import SAID, Json, read
from gateway.http.door import Door
from gateway.http.pages import Page, Reply
from gateway.questions import WITHIN
from schemas.errors import InvalidInput


class AnswerRequest(msgspec.Struct, frozen=True):
    """The body of `POST /questions/{question_id}/answer`: any text, or for an approval one of the choices."""

    answer: Annotated[str, SAID]


class Replied(msgspec.Struct, frozen=True):
    """Whose question has its answer."""

    question_id: str
    task_id: str
    step_id: str


class QuestionView(msgspec.Struct, frozen=True):
    """A question that waits, whose it is, and until when. An approval is answered by one of its choices."""

    question_id: str
    task_id: str
    step_id: str
    goal: str
    question: str
    choices: tuple[str, ...]
    approval: bool
    asked_at: datetime | None
    expires: datetime | None

    @classmethod
    def of(cls, found: OpenQuestion) -> "QuestionView":
        """That of a question as it is kept."""
        asking = found.asking
        return cls(
            question_id=asking.id,
            task_id=found.run_id,
            step_id=found.step_id,
            goal=found.goal,
            question=asking.question,
            choices=asking.choices,
            approval=asking.approval,
            asked_at=asking.asked_at,
            expires=asking.expires,
        )


class QuestionList(msgspec.Struct, frozen=True):
    """The questions that wait, the oldest first; `more` says that there are others."""

    questions: tuple[QuestionView, ...]
    more: bool


class Questions:
    """The pages about questions."""

    def __init__(self, door: Door) -> None:
        self._victoria = door.victoria

    @property
    def pages(self) -> list[Page]:
        """Their rows of the table."""
        return [
            Page(
                method="GET",
                path="/questions",
                serve=self.questions,
                summary="The questions that wait for somebody's answer",
                replies={200: Reply("They.", QuestionList, links={"answer": "questions/0/question_id"})},
                tag="Questions",
            ),
            Page(
                method="POST",
                path="/questions/{question_id}/answer",
                serve=self.answer,
                summary="Answer a question: its step goes on where it stopped",
                replies={
                    200: Reply("The step goes on.", Replied),
                    202: Reply("The answer is published, but no worker takes it yet.", Replied),
                },
                scope="publish",
                body=AnswerRequest,
                refusals=(409,),
                tag="Questions",
            ),
        ]

    async def questions(self, _request: Request) -> Response:
        """`GET /questions`."""
        found = list[OpenQuestion]()
        async for each in self._victoria.questions.waiting():
            found.append(each)
            if len(found) > MOST:
                break
        return Json(QuestionList(tuple(map(QuestionView.of, found[:MOST])), len(found) > MOST))

    async def answer(self, request: Request) -> Response:
        """`POST /questions/{question_id}/answer`: 200 once the step goes on, 202 while nobody takes the answer."""
        question_id, body = request.path_params["question_id"], await read(request, AnswerRequest)
        found = await self._victoria.questions.find(question_id)
        await self._victoria.answer(found, checked_answer(found.asking, body.answer))
        with anyio.move_on_after(WITHIN) as late:
            await self._closed(question_id)
        replied = Replied(question_id, found.run_id, found.step_id)
        return Json(replied, 202 if late.cancelled_caught else 200)

    async def _closed(self, question_id: str) -> None:
        while True:
            try:
                await self._victoria.questions.find(question_id)
            except InvalidInput:
                return
            await anyio.sleep(0.02)
