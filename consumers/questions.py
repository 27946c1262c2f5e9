"""Questions of steps to people: how they are asked, what a reply means, and which of them wait."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast

import msgspec

from consumers.runs.state import STAGE, Asking, RunState, waiting
from consumers.tools.registry import YES
from consumers.tools.tool import Asked, ToolArguments
from schemas.errors import InvalidInput
from schemas.events import QuestionAsked, StepReady
from schemas.plan import Progress
from streams.connection import Client
from streams.keys import Keys
from streams.stage import Context

UNANSWERED = "Nobody answered in time. Do what you can without."
UNATTENDED = "Nobody is there to be asked. Do what you can without."
REFUSED = "The user did not agree to that call. Do without it."
MOST = 1_000
"""Questions listed at once, of each partition."""
LONGEST = 16_000
"""Characters of an answer."""


class OpenQuestion(msgspec.Struct, frozen=True):
    """A question that waits for a person's answer, and whose it is."""

    run_id: str
    step_id: str
    goal: str
    asking: Asking


def asked(
    event: StepReady, call: ToolArguments, signal: Asked, progress: Progress, seconds: float, ctx: Context[None]
) -> QuestionAsked:
    """The question that a step's call leads to, open for so many seconds. Its id names its run."""
    said = msgspec.json.encode(call).decode()
    return QuestionAsked(
        question_id=f"{ctx.run_id}.{ctx.new_id(f'question-{progress.rounds}')[:12]}",
        step_id=event.step.id,
        question=signal.question,
        choices=tuple(dict.fromkeys(signal.choices)),
        approval=signal.approval,
        expires=ctx.now() + timedelta(seconds=seconds),
        progress=msgspec.structs.replace(progress, pending=said),
    )


def unattended(ctx: Context[None]) -> bool:
    """Whether a run is one whose steps ask nobody."""
    return bool(ctx.limits and ctx.limits.unattended)


def agrees(reply: str) -> bool:
    """Whether a reply lets a tool be used. Only the plain word does."""
    return reply.strip().casefold() == YES


def run_of(question_id: str) -> str:
    """The run that a question is of."""
    return question_id.rpartition(".")[0]


class Questions:
    """The questions that wait, over all runs.

    The list is only a hint of where to look: whether a question still waits, its run's state says.
    """

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client: Any = client
        self._keys = keys

    async def listed(self, asking: Asking, _key: str) -> None:
        """Put a question on the list."""
        partition = self._keys.of_run(run_of(asking.id))
        at = asking.asked_at.timestamp() if asking.asked_at else 0
        await self._client.zadd(self._keys.questions(partition), {asking.id: at})

    async def waiting(self) -> AsyncIterator[OpenQuestion]:
        """Those that wait, of each partition the oldest first. What no longer waits is taken off the list."""
        for partition in self._keys.of_stream("aggregate"):
            key, kept = self._keys.questions(partition), 0
            while kept < MOST and (ids := await self._client.zrange(key, kept, kept + MOST - 1)):
                for raw in cast("list[bytes]", ids):
                    found = await self._find(raw.decode())
                    if isinstance(found, str) and found != "coming":
                        await self._client.zrem(key, raw)
                        continue
                    kept += 1
                    if isinstance(found, OpenQuestion):
                        yield found

    async def find(self, question_id: str) -> OpenQuestion:
        """A question that waits. Raises InvalidInput `question.unknown`, `question.closed`."""
        found = await self._find(question_id)
        if isinstance(found, OpenQuestion):
            return found
        if found == "closed":
            raise InvalidInput(
                "question.closed",
                f"Question {question_id} was answered, or its time or its run is over.",
                "`victoria questions` shows those that wait.",
            )
        raise InvalidInput(
            "question.unknown", f"There is no question {question_id[:120]!r}.", "`victoria questions` shows them."
        )

    async def _find(self, question_id: str) -> "OpenQuestion | str":
        """The question, or `unknown`, `closed`, or `coming`: its run's state does not say so yet."""
        run_id = run_of(question_id)
        if not run_id:
            return "unknown"
        data = await self._client.hget(self._keys.run(self._keys.of_run(run_id), run_id), STAGE)
        if data is None:
            return "unknown"
        state = msgspec.json.decode(data, type=RunState)
        for step_id, asking in waiting(state):
            if asking.id == question_id:
                return OpenQuestion(run_id, step_id, state.goal, asking)
        if question_id in state.asked:
            return "closed"
        return "unknown" if state.finished else "coming"


def checked_answer(asking: Asking, answer: str) -> str:
    """What is given as an answer, as one of the choices is written if it is one; an approval has to be. Raises
    InvalidInput."""
    text = answer.strip()
    if not text:
        raise InvalidInput("answer.empty", "The answer is empty.", "Say something, or cancel the run.")
    if len(text) > LONGEST:
        raise InvalidInput("answer.too_large", f"The answer has {len(text):,} characters.", f"Say it in {LONGEST:,}.")
    if not asking.choices:
        return text
    for choice in asking.choices:
        if choice.casefold() == text.casefold():
            return choice
    if not asking.approval:
        return text  # what a model offers to choose from may miss the point
    raise InvalidInput("answer.choice", f"{text[:80]!r} can't be chosen.", f"Choose: {', '.join(asking.choices)}.")
