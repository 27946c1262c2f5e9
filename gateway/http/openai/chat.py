"""`POST /v1/chat/completions`: the last message of a user is a goal, what was said before it is its history, and the
answer is a run's. The connection is only a listener: whoever has the same conversation again has the same run."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import NamedTuple

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from consumers.intake import HISTORY_CHARACTERS, HISTORY_PAIRS, goal_submitted
from consumers.questions import checked_answer
from gateway.http import bodies
from gateway.http.bodies import Json, exchanges
from gateway.http.door import Door
from gateway.http.failure import response
from gateway.http.openai import asides
from gateway.http.openai.bodies import ChatRequest, Choice, Completion, Finish, Said, Usage
from gateway.http.openai.bodies import Turn as Speaks
from gateway.http.openai.conversation import Asker, Conversations, Turn
from gateway.http.openai.errors import failed
from gateway.http.openai.models import Catalogue
from gateway.http.openai.speech import Speech
from gateway.http.openai.stream import ALIVE, DONE, Chunks, with_silences
from gateway.http.runs import unless_gone
from llm.prompts import excerpt
from schemas.errors import InvalidInput, VictoriaError
from schemas.events import AnswerProgressed, Exchange, GoalSubmitted, RunFinished, RunProgressed
from streams.append import new_run_id
from streams.connection import reachable

SETTING_CHARACTERS = 16_000
"""Of what system messages say."""
NO_RETRY = {"x-should-retry": "false"}
"""Tells OpenAI's clients that the same request again would have the same end."""
_MARKS = {"understood": "✓", "plan": "✓ plan:", "task_start": "→", "task_end": "✓", "handoff": "→", "delegated": "→"}
UNBUFFERED = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class Heard(NamedTuple):
    """A request as it counts: what was said up to the goal, and by the setting, in order; the goal is the last."""

    asker: Asker
    said: tuple[Said, ...]
    body: ChatRequest


class Chat:
    """The page."""

    def __init__(self, door: Door, models: Catalogue) -> None:
        self._door, self._victoria, self._models = door, door.victoria, models
        settings = door.victoria.settings
        self._conversations = Conversations(
            door.victoria.client, door.victoria.keys, settings.keep, settings.question_timeout
        )

    async def completions(self, request: Request) -> Response:
        """An answer, whole or as it comes."""
        body = await bodies.read(request, ChatRequest)
        wanted = self._models.wanted(body.model)
        heard = Heard(Asker.of(request, body), _up_to_goal(body.heard()), body)
        if aside := asides.recognised(heard.said):
            replied = await unless_gone(request, asides.replied(self._victoria, aside, heard.said))
            return self._aside(heard, replied) if replied else _nobody()
        body.check()
        turn = await self._conversations.turn(heard.asker, heard.said)
        unfit = await self._answer(heard, turn) if turn.question else None
        if not turn.question:
            goal = replace(await self._goal(heard, turn), **wanted._asdict(), asker=heard.asker.person)
            # Another attempt is to be another one; what is asked for with a seed, by itself.
            goal = replace(goal, cache="off" if heard.body.seed is not None else "renew" if turn.again else "use")
            with self._door.metrics.taking():
                (published,) = await self._victoria.submit([(turn.run_id, goal)])
            if published != "known":
                self._door.metrics.submitted.inc()
        if body.stream:
            return self._sse(heard, turn, unfit)
        with self._door.at_work():
            last = unfit or await unless_gone(request, self._last(turn))
        match last:
            case None:
                return _nobody()
            case Asks():
                await self._remember(heard, turn, last, last.text)
                return _whole(heard, turn.run_id, last.text, "stop", None)
            case end:
                over = self._conversations.handing_over(turn)
                if end.status != "completed":
                    return _Handed(response(_failure(end), NO_RETRY), over)
                return _Handed(_whole(heard, turn.run_id, end.output, _finish(end), _usage(end)), over)

    async def _goal(self, heard: Heard, turn: Turn) -> GoalSubmitted:
        """What is to be done. An answer to a question of a run that has ended is none by itself: it is that run's goal,
        once more, with the answer. Raises InvalidInput."""
        goal = _goal(self._victoria.projects.main, heard.said)
        if not turn.after:
            return goal
        try:
            first = await self._victoria.goal_of(turn.after)
        except InvalidInput:
            return goal  # it is too long ago
        return replace(goal, goal=f"{first.goal}\n\n{heard.said[-2].text}\n\n{goal.goal}")

    def _aside(self, heard: Heard, replied: asides.Replied) -> Response:
        if not heard.body.stream:
            return _whole(heard, new_run_id(), replied.text, "stop", replied.usage)

        async def streamed(chunks: Chunks) -> AsyncIterator[bytes]:
            yield chunks.begin() + chunks.content(replied.text) + chunks.end("stop", replied.usage) + DONE

        return _events(streamed(_chunks(heard, new_run_id())))

    async def _answer(self, heard: Heard, turn: Turn) -> "Asks | None":
        """Give what the user said to the question that waits. The question once more, if that can't be its answer."""
        try:
            found = await self._victoria.questions.find(turn.question)
        except InvalidInput:
            return None  # it was answered elsewhere, or not in time: the run went on
        try:
            await self._victoria.answer(found, checked_answer(found.asking, heard.said[-1].text))
        except InvalidInput as problem:
            again = Asks.of(turn.question, found.asking.question, found.asking.choices)
            return Asks(turn.question, f"{problem.message} {problem.hint}\n\n{again.text}")
        return None

    async def _remember(self, heard: Heard, turn: Turn, asks: "Asks", text: str) -> None:
        """Before a question is said as an assistant's turn, `text` in all: what is said next is its answer."""
        said = (*heard.said, Said("assistant", text.strip()))
        await self._conversations.asks(heard.asker, said, replace(turn, question=asks.question_id))

    async def _last(self, turn: Turn) -> "RunFinished | Asks":
        """The run's end, or what it asks before."""
        async with aclosing(self._happenings(turn)) as happenings:
            async for last in happenings:
                if isinstance(last, RunFinished | Asks):
                    return last
        raise AssertionError("a run's events end with its end")

    async def _happenings(self, turn: Turn) -> "AsyncGenerator[Happening]":
        """What happens to a run, to its end or to the question it waits for."""
        if end := (await self._victoria.view(turn.run_id)).finished:
            yield end
            return
        async with aclosing(self._door.live.events(turn.run_id)) as events:
            async for happened in events:
                match happened.body:
                    case RunProgressed(kind="question") as asked:
                        if asked.question_id != turn.question and await self._waits(asked.question_id):
                            yield Asks.of(asked.question_id, asked.text, asked.choices)
                            return
                    case body:
                        yield body

    async def _waits(self, question_id: str) -> bool:
        try:
            await self._victoria.questions.find(question_id)
        except InvalidInput:
            return False
        return True

    def _sse(self, heard: Heard, turn: Turn, unfit: "Asks | None") -> Response:
        return _events(self._streamed(heard, turn, unfit, _chunks(heard, turn.run_id)))

    async def _streamed(self, heard: Heard, turn: Turn, unfit: "Asks | None", chunks: Chunks) -> AsyncIterator[bytes]:
        yield chunks.begin()
        try:
            with self._door.at_work(), reachable(self._victoria.url):
                async for sent in self._told(heard, turn, unfit, chunks):
                    if sent:
                        yield sent
        except VictoriaError as problem:
            yield chunks.failed(failed(problem.info, 503 if problem.retryable else 500))

    async def _told(self, heard: Heard, turn: Turn, unfit: "Asks | None", chunks: Chunks) -> AsyncIterator[bytes]:
        speech = Speech()
        happenings = _only(unfit) if unfit else self._happenings(turn)
        async with aclosing(with_silences(happenings)) as heartbeat:
            async for happened in heartbeat:
                match happened:
                    case None:
                        yield ALIVE
                    case AnswerProgressed():
                        yield chunks.content(speech.piece(happened))
                    case RunProgressed():
                        yield chunks.progress(_line(happened))
                        if happened.plan:
                            yield chunks.content(speech.plan(happened.plan))
                    case Asks():
                        text = f"\n\n{happened.text}" if speech.said else happened.text
                        await self._remember(heard, turn, happened, speech.said + text)
                        yield chunks.content(text) + chunks.end("stop", None) + DONE
                    case RunFinished(status="completed"):
                        yield chunks.content(speech.end(happened.output))
                        async with self._conversations.handing_over(turn):
                            yield chunks.end(_finish(happened), _usage(happened)) + DONE
                    case RunFinished():
                        async with self._conversations.handing_over(turn):
                            yield chunks.failed(failed(_failure(happened).info, 500))


class Asks(NamedTuple):
    """A run waits for an answer to a question, which is said like this."""

    question_id: str
    text: str

    @classmethod
    def of(cls, question_id: str, question: str, choices: Sequence[str]) -> "Asks":
        """A question with its choices."""
        listed = "".join(f"\n- {choice}" for choice in choices)
        return cls(question_id, f"{question}\n{listed}" if choices else question)


Happening = RunProgressed | AnswerProgressed | RunFinished | Asks


class _Handed(Response):
    """A response whose being sent counts."""

    def __init__(self, said: Response, over: AbstractAsyncContextManager[None]) -> None:
        super().__init__(status_code=said.status_code)
        self._said, self._over = said, over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._over:
            await self._said(scope, receive, send)


def _up_to_goal(said: Sequence[Said]) -> tuple[Said, ...]:
    """The messages, the last of a user's at the end: it is the goal. Raises InvalidInput."""
    last = max((number for number, each in enumerate(said) if each.role == "user"), default=-1)
    if last < 0:
        raise InvalidInput("messages.no_user", "messages has none of a user.", "The last of a user's is the goal.")
    if any(each.role == "assistant" for each in said[last:]):
        hint = "Victoria answers; it does not write on what somebody else began."
        raise InvalidInput("messages.order", "messages ends with an assistant's.", hint)
    if not said[last].text:
        raise InvalidInput("messages.empty", f"messages[{last}] is empty.", "Say what you want.")
    return (*said[:last], *said[last + 1 :], said[last])


def _goal(project: str, said: Sequence[Said]) -> GoalSubmitted:
    """The goal with what was said before it, as far as that is taken. Raises InvalidInput."""
    setting = excerpt("\n\n".join(each.text for each in said if each.role == "system"), SETTING_CHARACTERS)
    before = [bodies.Message(each.role, each.text) for each in said[:-1]]
    room, history = HISTORY_CHARACTERS - SETTING_CHARACTERS, list[Exchange]()
    for turn in reversed(exchanges(tuple(before))[-HISTORY_PAIRS:]):
        room -= len(turn.user) + len(turn.assistant)
        if room < 0:
            break
        history.append(turn)
    return goal_submitted(said[-1].text, project, "", tuple(reversed(history)), setting)


def _line(progress: RunProgressed) -> str:
    mark = "✗" if progress.status in ("failed", "blocked") else _MARKS.get(progress.kind, "·")
    what = progress.text or (f"step {progress.step_id}: {progress.status}" if progress.step_id else "")
    return f"{mark} {what}"


def _failure(end: RunFinished) -> VictoriaError:
    """What to say of a run without an answer."""
    error = end.error
    if error is None:
        return VictoriaError(f"run.{end.status}", end.output or f"The run {end.status}.")
    return VictoriaError(error.code, error.message, error.hint)


def _finish(end: RunFinished) -> Finish:
    return "length" if end.error else "stop"  # of a completed run, an error is the limit that it was stopped at


def _usage(end: RunFinished) -> Usage:
    spent = end.metadata
    return Usage.of(spent.tokens_in, spent.tokens_out, spent.tokens_cached)


def _answer_id(run_id: str) -> str:
    return f"chatcmpl-{run_id}"


def _whole(heard: Heard, run_id: str, text: str, finish: Finish, usage: Usage | None) -> Response:
    choices = (Choice(Speaks(text), finish),)
    return Json(Completion(_answer_id(run_id), int(time.time()), heard.body.model, choices, usage))


def _chunks(heard: Heard, run_id: str) -> Chunks:
    options = heard.body.stream_options
    return Chunks(_answer_id(run_id), heard.body.model, with_usage=bool(options and options.include_usage))


def _events(sent: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(sent, headers=UNBUFFERED, media_type="text/event-stream")


async def _only(asks: Asks) -> AsyncGenerator[Happening]:
    yield asks


def _nobody() -> Response:
    return Response(status_code=400)  # nobody hears it: the client is gone
