"""The context a live worker gives to a handler: effects through the journal, time and ids derived from the entry."""

from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, TypeVar

import msgspec

from schemas.envelope import Envelope, derived_id
from schemas.errors import EffectFailed, ErrorInfo, ModelFailed, OutcomeUnknown, VictoriaError
from schemas.events import Event
from schemas.inference import Question
from schemas.plan import Limits, Trust, Usage, least_trusted
from streams.asking import Asker, Asking
from streams.budget import require_time
from streams.entry import Entry
from streams.journal import NOTHING, Journal, Record, decoded, matching, request_hash
from streams.keys import Keys
from streams.observer import SILENT, Observer
from streams.records import Records
from streams.stage import Action, Effects

A = TypeVar("A")
R = TypeVar("R")

WAITING_RECORDS, WAITING_BYTES = 32, 64 * 1024
"""Records that may wait for an event's settlement, and how large one of them may be."""
NO_USAGE = Usage()
OUTCOME_UNKNOWN = "effect.unknown"


@dataclass(frozen=True, slots=True)
class Effector:
    """What effects need, shared by all contexts of a worker."""

    keys: Keys
    records: Records
    journal: Journal
    asker: Asker
    observer: Observer = SILENT


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

    @property
    def limits(self) -> Limits | None:
        """What the run may cost."""
        return self._envelope.limits

    async def ask(self, name: str, question: Question[R]) -> R:
        """Ask a model; see streams/asking.py for what happens before it raises EffectFailed."""
        self.trust = least_trusted(self.trust, "model")
        await self._keep_records()
        envelope = self._envelope
        by = Asking(self.run_id, self.event_id, self.trust, envelope.traceparent, envelope.limits)
        answer, usage = await self._effector.asker.ask(by, name, question)
        self._usage += usage
        if isinstance(answer, EffectFailed):
            raise answer
        return answer

    async def call(self, name: str, action: Action[A, R], request: A, returns: type[R], effects: Effects = "none") -> R:
        """Do one outside action, or return what it gave before."""
        self.trust = least_trusted(self.trust, "tool")
        effect, hashed = f"{self.event_id}/{name}", request_hash([request])
        if effects == "none":
            record = await self._looked_up(effect, action, request, hashed)
        else:
            record = await self._carried_out(effect, action, request, hashed, effects)
        return msgspec.json.decode(result_of(record, hashed, effect), type=returns)

    async def reserve(self, name: str, tokens: int) -> int:
        """Reserve up to `tokens`, or what was reserved before."""

        async def reserve(tokens: int, effect: str) -> int:
            try:
                require_time(self.limits)
                return await self._effector.asker.budget.reserve(self.run_id, effect, self.limits, tokens, 1)
            except ModelFailed:
                return 0

        if self.limits is None:
            return tokens
        effect, hashed = self._share(name), request_hash([tokens])
        record = await self._looked_up(effect, reserve, tokens, hashed)
        return msgspec.json.decode(result_of(record, hashed, effect), type=int)

    async def spend(self, name: str, tokens: int, calls: int) -> None:
        """Settle what was reserved under this name, once."""
        await self._effector.asker.budget.spend(self.run_id, self._share(name), self.limits, tokens, calls)

    def _share(self, name: str) -> str:
        return f"{self.event_id}/{name}.share"

    async def _looked_up(self, effect: str, action: Action[A, Any], request: A, hashed: str) -> Record:
        """What changes nothing outside: its record can wait for the next one, or for the settlement.

        If a crash comes before, it is done again, and nothing that followed from it has been said.
        """
        observer = self._effector.observer
        if earlier := self._entry.records.get(effect):
            observer.effect("call", ran=False)
            return decoded(earlier)
        record = None if self._fresh else await self._effector.journal.read(self.run_id, effect)
        observer.effect("call", ran=record is None)
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
                self._effector.observer.effect("call", ran=False)
                return record
            if effects == "unknown":
                why = f"{effect!r} was begun before, and how it ended was not recorded; it is not done again."
                return await journal.write(self.run_id, effect, _unknown(hashed, why))
        self._effector.observer.effect("call", ran=True)
        try:
            record = await _acted(action, request, effect, hashed)
        except VictoriaError:  # one that is worth another try: nothing was done
            await journal.withdraw(self.run_id, effect)
            raise
        except Exception as problem:
            if effects != "unknown":
                raise
            record = _unknown(hashed, f"{effect!r} ended with {type(problem).__name__}; it is not done again.")
        return await journal.write(self.run_id, effect, record)

    async def _keep_records(self) -> None:
        """Write records that wait: what is asked or done next may follow from them."""
        if records := self._entry.records:
            if not await self._effector.journal.keep(self.run_id, records):
                raise Overtaken
            records.clear()


def _unknown(hashed: str, message: str) -> Record:
    """Recorded too: what comes to light later must not change what was said of it."""
    error = ErrorInfo(OUTCOME_UNKNOWN, message, "Look outside whether it happened.")
    return Record("call", hashed, datetime.now(UTC), error=error)


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


def result_of(record: Record, request: str, effect: str) -> msgspec.Raw:
    """What an action gave. Raises EffectFailed, OutcomeUnknown, and JournalChanged for another request's record."""
    record = matching(record, request, effect)
    if error := record.error:
        if error.code == OUTCOME_UNKNOWN:
            raise OutcomeUnknown(error.code, error.message, error.hint)
        raise EffectFailed(error.code, error.message, error.hint)
    return record.result
