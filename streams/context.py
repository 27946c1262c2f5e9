"""The context a live worker gives to a handler: effects through the journal, time and ids derived from the entry."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any, TypeVar

import msgspec

from schemas.envelope import Envelope, derived_id, encode
from schemas.errors import (
    EffectFailed,
    ErrorInfo,
    JournalChanged,
    ModelFailed,
    OutcomeUnknown,
    VictoriaError,
)
from schemas.events import ChatMessage, Event, InferenceRequested
from schemas.inference import Question
from schemas.plan import Trust, Usage, least_trusted
from streams.answers import Answers
from streams.entry import Entry
from streams.journal import NOTHING, Journal, Record, decoded, request_hash
from streams.keys import INFERENCE, Keys
from streams.records import Records
from streams.scripts import Scripts
from streams.stage import Action, Effects

A = TypeVar("A")
R = TypeVar("R")

KEEP_QUESTIONS = 86_400
"""Seconds for which a question that was put is remembered as put."""

WAITING_RECORDS, WAITING_BYTES = 32, 64 * 1024
"""Records that may wait for an event's settlement, and how large one of them may be."""
NO_USAGE = Usage()

Router = Callable[[Question[Any]], str]
"""Chooses the inference stream for a question; raises ModelFailed where there is none."""


@dataclass(frozen=True, slots=True)
class Effector:
    """What effects need, shared by all contexts of a worker. `model_timeout` is seconds a stage waits for an answer."""

    keys: Keys
    scripts: Scripts
    records: Records
    journal: Journal
    answers: Answers
    route: Router
    model_timeout: float


class Overtaken(Exception):
    """Somebody else handles the same entry, and has recorded other results: handle it again, with theirs."""


class LiveContext:
    """One event's context. Made anew for every handling; all that must last is in the journal."""

    __slots__ = ("_effector", "_entry", "_envelope", "_fresh", "_usage", "event_id", "run_id", "state", "trust")

    def __init__(self, envelope: Envelope[Event], entry: Entry, state: Any, effector: Effector) -> None:
        self.run_id, self.event_id, self.state = envelope.run, envelope.id, state
        self.trust: Trust = envelope.trust
        self._fresh, entry.fresh = entry.fresh, False
        self._envelope, self._entry, self._effector, self._usage = envelope, entry, effector, NO_USAGE

    def now(self) -> datetime:
        """When the entry arrived on its stream, by the server's clock."""
        return datetime.fromtimestamp(self._entry.arrived / 1000, UTC)

    def new_id(self, name: str) -> str:
        """An id derived from the event and `name`."""
        return derived_id(self.event_id, name)

    def usage(self) -> Usage:
        """What this handler's model calls cost so far."""
        return self._usage

    async def ask(self, name: str, question: Question[R]) -> R:
        """Ask a model, once more with the reason if its answer is not of the question's type."""
        self.trust = least_trusted(self.trust, "model")
        text = await self._answer(name, question)
        try:
            return question.parse(text)
        except msgspec.DecodeError as problem:
            better = question.repaired(text, str(problem))
        text = await self._answer(f"{name}.repair", better)
        try:
            return question.parse(text)
        except msgspec.DecodeError as problem:
            raise EffectFailed("model.invalid", f"The model's answer to {name!r} is not usable: {problem}") from problem

    async def _answer(self, name: str, question: Question[Any]) -> str:
        effect = f"{self.event_id}/{name}"
        messages = (ChatMessage("system", question.system), ChatMessage("user", question.user))
        schema = question.schema
        request = request_hash([messages, schema, question.max_tokens])
        effector = self._effector
        await self._keep_records()
        record = await effector.journal.read(self.run_id, effect)
        if record is None:
            try:
                stream = effector.route(question)
                deadline = datetime.now(UTC) + timedelta(seconds=effector.model_timeout)
                asked = InferenceRequested(
                    effect=effect,
                    request=request,
                    messages=messages,
                    max_tokens=question.max_tokens,
                    reply_to=effector.answers.channel,
                    deadline=deadline,
                    answer_schema=schema,
                    priority=question.priority,
                )
                record = await self._wait(stream, asked)
            except ModelFailed as problem:
                # Giving up is recorded too: an answer that comes later must not change what a replay sees.
                record = await effector.journal.write(
                    self.run_id, effect, Record("ask", request, datetime.now(UTC), error=problem.info)
                )
        self._usage += record.usage
        return msgspec.json.decode(_result(record, request, effect), type=str)

    async def _wait(self, stream: str, asked: InferenceRequested) -> Record:
        effector = self._effector
        envelope = Envelope(
            id=derived_id(asked.effect, asked.request),
            run=self.run_id,
            v=InferenceRequested.version,
            at=datetime.now(UTC),
            trust=self.trust,
            body=asked,
            cause=self.event_id,
            traceparent=self._envelope.traceparent,
        )
        with effector.answers.expecting(asked.effect) as hint:
            await effector.scripts.append_once(
                effector.keys.asked(asked.effect),
                effector.keys.stream(INFERENCE, stream),
                "request",
                type(asked).__name__,
                encode(envelope),
                KEEP_QUESTIONS,
            )
            return await effector.answers.wait(self.run_id, asked.effect, hint, asked.deadline)

    async def call(self, name: str, action: Action[A, R], request: A, returns: type[R], effects: Effects = "none") -> R:
        """Do one outside action, or return what it gave before."""
        self.trust = least_trusted(self.trust, "tool")
        effect, hashed = f"{self.event_id}/{name}", request_hash([request])
        if effects == "none":
            record = await self._looked_up(effect, action, request, hashed)
        else:
            record = await self._carried_out(effect, action, request, hashed, effects)
        return msgspec.json.decode(_result(record, hashed, effect), type=returns)

    async def _looked_up(self, effect: str, action: Action[A, Any], request: A, hashed: str) -> Record:
        """What changes nothing outside: its record can wait for the next one, or for the settlement.

        If a crash comes before, it is done again, and nothing that followed from it has been said.
        """
        if earlier := self._entry.records.get(effect):
            return decoded(earlier)
        record = None if self._fresh else await self._effector.journal.read(self.run_id, effect)
        if record is None:
            record = await _acted(action, request, effect, hashed)
            records, data = self._entry.records, msgspec.json.encode(record)
            records[effect] = data
            if len(records) >= WAITING_RECORDS or len(data) > WAITING_BYTES:
                await self._keep_records()
        return record

    async def _carried_out(
        self, effect: str, action: Action[A, Any], request: A, hashed: str, effects: Effects
    ) -> Record:
        """What may change something outside: its intent is recorded before it is done."""
        journal = self._effector.journal
        await self._keep_records()
        if not await journal.intend(self.run_id, effect):
            if record := await journal.read(self.run_id, effect):
                return record
            if effects == "unknown":
                raise _unknown(f"{effect!r} was begun before, and how it ended was not recorded; it is not done again.")
        try:
            record = await _acted(action, request, effect, hashed)
        except VictoriaError:  # one that is worth another try: nothing was done
            await journal.withdraw(self.run_id, effect)
            raise
        except Exception as problem:
            if effects == "unknown":
                raise _unknown(f"{effect!r} ended with {type(problem).__name__}; it is not done again.") from problem
            raise
        return await journal.write(self.run_id, effect, record)

    async def _keep_records(self) -> None:
        """Write records that wait: what is asked or done next may follow from them."""
        if records := self._entry.records:
            if not await self._effector.journal.keep(self.run_id, records):
                raise Overtaken
            records.clear()


def _unknown(message: str) -> OutcomeUnknown:
    return OutcomeUnknown("effect.unknown", message, "Look outside whether it happened.")


async def _acted(action: Action[A, Any], request: A, effect: str, hashed: str) -> Record:
    started = perf_counter()
    result, error = NOTHING, None
    try:
        result = msgspec.Raw(msgspec.json.encode(await action(request, effect)))
    except VictoriaError as problem:
        if problem.retryable:
            raise
        error = problem.info
    return Record("call", hashed, datetime.now(UTC), result, error, seconds=perf_counter() - started)


def _result(record: Record, request: str, effect: str) -> msgspec.Raw:
    if record.request != request:
        raise JournalChanged(
            "journal.changed",
            f"{effect} is recorded for another request.",
            "A handler must ask for the same things in the same order each time; use ctx.now() and ctx.new_id().",
        )
    if record.error or not bytes(record.result):
        error = record.error or ErrorInfo("journal.empty", f"{effect} has neither result nor error.")
        raise EffectFailed(error.code, error.message, error.hint)
    return record.result
