"""Asking models from within a handler: every try is recorded, so that a replay needs neither models nor a router.

The first try is recorded under the question's name, the others under `name.2`, `name.3`, ...: an answer that is not of
the question's type is repaired once, then another model is asked; a model that failed is passed over
(schemas/advice.py decides). While no model can take the question, its event is put off, not failed.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol, TypeVar, cast
from uuid import uuid4

import anyio
import msgspec

from schemas.advice import INVALID, NO_OTHER, Tried, next_try
from schemas.envelope import Envelope, derived_id, encode
from schemas.errors import EffectFailed, ErrorInfo, ModelFailed, NoModelNow
from schemas.events import InferenceRequested
from schemas.inference import Question
from schemas.plan import Limits, Trust, Usage
from streams.answers import Answers
from streams.budget import Budget, estimated, require_time
from streams.connection import Client
from streams.journal import Journal, Record, matching, request_hash
from streams.keys import INFERENCE, Keys
from streams.observer import SILENT, Observer
from streams.records import Records
from streams.scripts import Scripts
from streams.stage import Snooze

R = TypeVar("R")

PUT_OFF = 1.0
"""Seconds after which an event whose question no model can take is tried again."""
KEEP_REASON = 10
"""Seconds for which it is known why a run waits: several times PUT_OFF, and answers.LOOK_AGAIN."""


class Route(NamedTuple):
    """Where a question goes: an inference stream, and the model to be asked there."""

    stream: str
    model: str


NOWHERE = Route("", "")


class Router(Protocol):
    """Chooses models for questions."""

    async def route(self, question: Question[Any], tried: Sequence[Tried]) -> Route:
        """Where to ask, after these tries. Raises ModelFailed where there is no use in asking any more, and NoModelNow
        where there may be later."""
        ...

    async def serves(self, route: Route) -> bool:
        """Whether there is still somebody to answer there."""
        ...


class NoModels:
    """A router without any."""

    async def route(self, question: Question[Any], tried: Sequence[Tried]) -> Route:
        """Raises ModelFailed `model.none`."""
        raise ModelFailed("model.none", "No model is to be used.", "Unset VICTORIA_MODEL to use one.")

    async def serves(self, route: Route) -> bool:
        """Nobody does."""
        return False


class Deferral(Snooze):
    """The event waits for a model."""

    def __init__(self, problem: NoModelNow) -> None:
        super().__init__(PUT_OFF)
        self.problem = problem


class Waiting(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a run does not go on: which of its effects waits, and for what; without an `error` for the answer of a
    `model`, whose questions come on `stream`."""

    effect: str
    error: ErrorInfo | None
    at: datetime
    stream: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks: one handling of one event."""

    run_id: str
    event_id: str
    trust: Trust
    traceparent: str = ""
    limits: Limits | None = None


class Asker:
    """Asks for all handlers of a worker. Seconds: `timeout`, how long a question may take in all its tries together;
    `patience`, how long an event may wait for a model to be there."""

    def __init__(
        self,
        client: Client,
        keys: Keys,
        journal: Journal,
        answers: Answers,
        router: Router,
        timeout: float,
        patience: float,
        observer: Observer = SILENT,
    ) -> None:
        self._client, self._keys, self._scripts = client, keys, Scripts(client)
        self._journal, self._answers, self._router = journal, answers, router
        self.budget = Budget(self._scripts, keys)
        self._timeout, self._patience, self._observer = timeout, patience, observer

    async def ask(self, by: Asking, name: str, question: Question[R]) -> tuple[R | EffectFailed, Usage]:
        """The answer, or why there is none, and what all tries cost. Raises Deferral."""
        if by.limits and by.limits.background:
            question = replace(question, priority="background")
        deadline = datetime.now(UTC) + timedelta(seconds=self._timeout)
        if by.limits and by.limits.ends:
            deadline = min(deadline, by.limits.ends)

        async def recorded(effect: str, asked: Question[Any], tried: Sequence[Tried]) -> Record:
            return await self._recorded(by, effect, asked, tried, deadline)

        return await in_tries(f"{by.event_id}/{name}", question, recorded)

    async def _recorded(
        self, by: Asking, effect: str, question: Question[Any], tried: Sequence[Tried], deadline: datetime
    ) -> Record:
        """One try's record, after it was asked if it was not before."""
        messages, request = question.messages, asked_for(question)
        record = await self._journal.read(by.run_id, effect)
        self._observer.effect("ask", ran=record is None)
        if record is None:
            route = NOWHERE
            try:
                require_time(by.limits)
                if tried and datetime.now(UTC) >= deadline:
                    raise _late()
                wished = replace(question, model=by.limits.model) if by.limits and by.limits.model else question
                route = await self._router.route(wished, tried)
                share = estimated(messages, question.max_tokens)
                await self.budget.reserve(by.run_id, effect, by.limits, share, share)
                asked = InferenceRequested(
                    effect=effect,
                    request=request,
                    messages=messages,
                    max_tokens=question.max_tokens,
                    reply_to=self._answers.channel,
                    deadline=deadline,
                    answer_schema=question.schema,
                    priority=question.priority,
                    model=route.model,
                    step=question.step,
                    outlives_run=question.outlives_run,
                )
                record = await self._put(by, route, asked)
            except NoModelNow as problem:
                since = await self._journal.begun(by.run_id, effect)
                if (datetime.now(UTC) - since).total_seconds() < min(self._patience, question.patience):
                    await self._put_off(by, effect, problem)
                record = await self._give_up(by, effect, request, problem.info)
            except ModelFailed as problem:
                record = await self._give_up(by, effect, request, problem.info, route.model)
        cost = record.usage
        await self.budget.spend(by.run_id, effect, by.limits, cost.tokens_in + cost.tokens_out, cost.calls)
        return matching(record, request, effect)

    async def _give_up(self, by: Asking, effect: str, request: str, error: ErrorInfo, model: str = "") -> Record:
        """Recorded too: an answer that comes later must not change what a replay sees."""
        record = Record("ask", request, datetime.now(UTC), error=error, usage=Usage(model))
        return await self._journal.write(by.run_id, effect, record)

    async def _put_off(self, by: Asking, effect: str, problem: NoModelNow) -> None:
        """Leave word why the run waits, and raise Deferral."""
        await self._say(by, Waiting(effect, problem.info, datetime.now(UTC)))
        raise Deferral(problem)

    async def _say(self, by: Asking, reason: Waiting) -> None:
        await self._client.set(self._keys.waiting(by.run_id), msgspec.json.encode(reason), ex=KEEP_REASON)

    async def _put(self, by: Asking, route: Route, asked: InferenceRequested) -> Record:
        """Put a question on its stream and wait for its record.

        After a crash it is not put there again before its deadline, from which on nobody would answer it. It may be put
        on another stream as well, since nobody may be left at the first: one record wins."""
        envelope = Envelope(
            id=derived_id(asked.effect, asked.request),
            run=by.run_id,
            v=InferenceRequested.version,
            at=datetime.now(UTC),
            trust=by.trust,
            body=asked,
            cause=by.event_id,
            traceparent=by.traceparent,
        )
        with self._answers.expecting(asked.effect) as hint:
            await self._scripts.append_once(
                self._keys.asked(asked.effect),
                self._keys.stream(INFERENCE, route.stream),
                route.stream,
                type(asked).__name__,
                encode(cast("Any", envelope)),
                max(1, int((asked.deadline - datetime.now(UTC)).total_seconds())),
            )

            said = False

            async def gone() -> bool:
                nonlocal said
                said = True  # only of answers that take long: it costs a round trip
                await self._say(by, Waiting(asked.effect, None, datetime.now(UTC), route.stream, route.model))
                return not await self._router.serves(route)

            record = await self._answers.wait(by.run_id, asked.effect, hint, asked.deadline, gone)
            if said:
                await self._client.delete(self._keys.waiting(by.run_id))
        if record is None:
            require_time(by.limits)
            raise _late()
        return record


async def in_tries(
    effect: str,
    question: Question[R],
    recorded: Callable[[str, Question[Any], Sequence[Tried]], Awaitable[Record]],
) -> tuple[R | EffectFailed, Usage]:
    """Ask until an answer is of the question's type, or there is no use in asking more: the answer, or why there is
    none, and what all tries cost. `recorded` gives the record of one try, by its effect, question and tries before."""
    asked, tried, usage = question, list[Tried](), Usage()
    error = ErrorInfo("model.none", "Nothing was asked.")
    while True:
        record = await recorded(effect + (f".{len(tried) + 1}" if tried else ""), asked, tried)
        usage += record.usage
        if record.error is None:
            text = msgspec.json.decode(record.result, type=str)
            try:
                return question.parse(text), usage
            except (msgspec.DecodeError, RecursionError) as problem:
                name = effect.partition("/")[2]
                error = ErrorInfo(INVALID, f"The model's answer to {name!r} is not usable: {problem}")
                repaired = question.repaired(text, str(problem))
        else:
            repaired = question
            if record.error.code != NO_OTHER or not tried:  # otherwise what the others failed with says more
                error = record.error
        tried.append(Tried(record.usage.model, (record.error or error).code))
        then = next_try(tried)
        if then is None:
            return EffectFailed(error.code, error.message, error.hint), usage
        asked = repaired if then == "repair" else question


def asked_for(question: Question[Any]) -> str:
    """The hash by which the journal knows a question."""
    return request_hash([question.messages, question.schema, question.max_tokens])


@asynccontextmanager
async def asking(client: Client, keys: Keys, router: Router, within: float, patience: float) -> AsyncGenerator[Asker]:
    """An Asker outside of any worker, inside the context. `within` and `patience` are seconds, as Asker's."""
    records = Records(client)
    journal = Journal(client, keys, records)
    answers = Answers(client, journal, keys.answers(f"asking-{uuid4().hex}"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answers.listen)
        try:
            yield Asker(client, keys, journal, answers, router, within, patience)
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await records.close()


def _late() -> ModelFailed:
    return ModelFailed(
        "model.late",
        "No model answered in time.",
        "`victoria doctor` shows whether an inference consumer runs; VICTORIA_MODEL_TIMEOUT is the limit.",
    )
