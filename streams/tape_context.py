"""The context in which a handler is given what was recorded: of a run's tape, and nothing else."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import msgspec

from schemas.envelope import Envelope, derived_id
from schemas.errors import EffectFailed
from schemas.events import Event
from schemas.inference import Question
from schemas.plan import Limits, Trust, Usage, least_trusted
from streams.asking import asked_for, in_tries
from streams.context import result_of
from streams.journal import Record, decoded, matching, request_hash
from streams.stage import Action, Effects

A = TypeVar("A")
R = TypeVar("R")


class Unrecorded(Exception):
    """A handler wants an effect that its journal does not have."""


class Changed(NamedTuple):
    """An effect whose request is not the recorded one."""

    effect: str
    wanted: Any


class TapeContext:
    """The context of one handling in a replay: it knows only what is recorded. `lacks` is the effect it did not find,
    `changed` the one that was asked for otherwise, whatever the handler makes of that."""

    __slots__ = (
        *("_arrived", "_effects", "asks", "calls", "changed", "event_id", "lacks", "limits", "run_id", "state"),
        *("_usage", "trust"),
    )

    def __init__(self, effects: Mapping[str, bytes], envelope: Envelope[Event], arrived: int, state: Any) -> None:
        self.run_id, self.event_id, self.state = envelope.run, envelope.id, state
        self.trust: Trust = envelope.trust
        self.limits: Limits | None = envelope.limits
        self.lacks, self.changed = "", None
        self.asks = self.calls = 0
        self._effects, self._arrived, self._usage = effects, arrived, Usage()

    def now(self) -> datetime:
        """When the entry arrived on its stream."""
        return datetime.fromtimestamp(self._arrived / 1000, UTC)

    def new_id(self, name: str) -> str:
        """An id derived from the event and `name`."""
        return derived_id(self.event_id, name)

    def usage(self) -> Usage:
        """What this handler's model calls cost then."""
        return self._usage

    async def ask(self, name: str, question: Question[R]) -> R:
        """The recorded answer."""
        self.trust = least_trusted(self.trust, "model")

        async def recorded(effect: str, asked: Question[Any], _tried: object) -> Record:
            self.asks += 1
            record, request = self._record(effect), asked_for(asked)
            self._compare(record, request, effect, {"messages": asked.messages, "max_tokens": asked.max_tokens})
            return matching(record, request, effect)

        answer, usage = await in_tries(f"{self.event_id}/{name}", question, recorded)
        self._usage += usage
        if isinstance(answer, EffectFailed):
            raise answer
        return answer

    async def call(self, name: str, action: Action[A, R], request: A, returns: type[R], effects: Effects = "none") -> R:
        """What the action gave then."""
        self.trust = least_trusted(self.trust, "tool")
        return self._result(name, request, returns)

    async def reserve(self, name: str, tokens: int) -> int:
        """What was reserved then."""
        return tokens if self.limits is None else self._result(f"{name}.share", tokens, int)

    async def spend(self, name: str, tokens: int, calls: int) -> None:
        """Nothing: it was spent then."""

    def _result(self, name: str, request: Any, returns: type[R]) -> R:
        self.calls += 1
        effect, hashed = f"{self.event_id}/{name}", request_hash([request])
        record = self._record(effect)
        self._compare(record, hashed, effect, request)
        return msgspec.json.decode(result_of(record, hashed, effect), type=returns)

    def _record(self, effect: str) -> Record:
        data = self._effects.get(effect)
        if data is None:
            self.lacks = self.lacks or effect
            raise Unrecorded(effect)
        return decoded(data)

    def _compare(self, record: Record, request: str, effect: str, wanted: Any) -> None:
        if record.request != request and self.changed is None:
            self.changed = Changed(effect, wanted)
