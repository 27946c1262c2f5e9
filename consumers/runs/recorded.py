"""What is recorded of a run, by what is looked for: its events with their times, its effects, its last state."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any, NamedTuple

import msgspec

from consumers.runs.state import STAGE, RunState
from consumers.runs.timeline import NAME, counted
from schemas.envelope import UNREADABLE, Envelope, decode, derived_id
from schemas.errors import InvalidInput
from schemas.events import (
    DeadlinePassed,
    DelegationRequested,
    Event,
    GoalSubmitted,
    InferenceRequested,
    QuestionAnswered,
    QuestionAsked,
    RunFinished,
    StepReady,
)
from streams.entry import LATEST
from streams.journal import Record, decoded
from streams.outcome import Try
from streams.replay import FORK
from streams.stage import AnyStage
from streams.tape import Entry, Tape
from streams.topology import Topology


class Heard(msgspec.Struct):
    """An event: on which streams it came, when first and each further time, in ms since 1970; how often it was handled,
    None where that is not known, and what then failed."""

    envelope: Envelope[Event]
    streams: set[str]
    came: list[int]
    attempts: int | None = None
    history: tuple[Try, ...] = ()

    @property
    def id(self) -> str:
        """The event's."""
        return self.envelope.id

    @property
    def body(self) -> Any:
        """What happened."""
        return self.envelope.body

    @property
    def type(self) -> str:
        """The name of what happened."""
        return type(self.envelope.body).__name__


class Effect(NamedTuple):
    """Something that was asked or called. `name` is unique within its event."""

    name: str
    record: Record


class Recorded:
    """What a tape says of the run `id`.

    `heard` has its events by id, `asked` questions to models by effect, `effects` what an event's handlers asked and
    called, `changes` when a state changed, by effect, `letters` what was given up, by stage and event, `of_steps` and
    `of_questions` the events about one, in order. `zero` is when the run began, in ms since 1970; `end`, None if it
    goes on, and `now`, None if it does not, are in ms since then. `missing` says what could not be read.
    """

    def __init__(self, tape: Tape, topology: Topology, now: int | None) -> None:
        self.id = tape.run
        self.forked = any(effect.startswith(f"{FORK}/") for effect in tape.effects)
        """Whether its journal has effects of another run's past."""
        self._topology = topology
        self.missing = list(tape.missing)
        self.heard, self.asked = dict[str, Heard](), dict[str, Heard]()
        self.effects, self.changes = defaultdict[str, list[Effect]](list), dict[str, datetime]()
        for entry in tape.entries:
            self._hear(entry)
        for effect, data in tape.effects.items():
            self._recall(effect, data)
        self.letters = {(letter.stage, letter.event_id): letter for letter in tape.letters}
        self.zero = min((h.came[0] for h in self.of(GoalSubmitted) or self.heard.values()), default=0)
        self.last = next(iter(self.of(RunFinished)), None)
        self.end = self.ms(self.last.came[0]) if self.last else None
        self.now = None if now is None or self.last else self.ms(now)
        self.summaries = {each.id: each for each in self.last.body.metadata.steps} if self.last else {}
        state = tape.states.get(STAGE)
        try:
            self.state = msgspec.json.decode(state.data, type=RunState) if state else RunState()
        except UNREADABLE:
            self.state = RunState()
            self.missing.append("its last state, which can't be read")
        self._askers = {each.body.question_id: each.body.step_id for each in self.of(QuestionAsked)}
        self.of_steps, self.of_questions = defaultdict[str, list[Heard]](list), defaultdict[str, list[Heard]](list)
        for heard in sorted(self.heard.values(), key=lambda each: each.came[0]):
            self.of_steps[self.step_of(heard.body)].append(heard)
            if isinstance(heard.body, QuestionAnswered | DeadlinePassed):
                self.of_questions[heard.body.question_id].append(heard)

    def _hear(self, entry: Entry) -> None:
        try:
            envelope = decode(entry.type, bytes(entry.event))
        except InvalidInput as problem:
            self.missing.append(f"{entry.type[:NAME]} at {entry.stream} {entry.id}: {problem.code}")
            return
        body = envelope.body
        kept, key = (self.asked, body.effect) if isinstance(body, InferenceRequested) else (self.heard, envelope.id)
        heard = kept.setdefault(key, Heard(envelope, set(), []))
        ms = _moment(entry.id)
        heard.streams.add(entry.stream)
        heard.came = sorted({*heard.came, ms, *([entry.arrived] if 0 < entry.arrived < ms else [])})
        if entry.attempt:
            heard.attempts = max(heard.attempts or 1, counted(entry.attempt))
        heard.history = max(heard.history, entry.history, key=len)

    def _recall(self, effect: str, data: bytes) -> None:
        event, _, name = effect.partition("/")
        try:
            record = decoded(data)
        except UNREADABLE:
            self.missing.append(f"the record {effect[:NAME]}, which can't be read")
            return
        if record.kind == "state":
            self.changes[effect] = record.at
        elif event in self.heard or not self.forked:
            self.effects[event].append(Effect(name, record))

    def of(self, kind: type[Event]) -> list[Heard]:
        """The events of one type, in order."""
        return sorted((h for h in self.heard.values() if isinstance(h.body, kind)), key=lambda h: h.came[0])

    def readers(self, heard: Heard) -> list[AnyStage]:
        """The stages that handle an event."""
        return [s for s in self._topology.stages if s.reads in heard.streams and isinstance(heard.body, s.accepts)]

    def said(self, stage: str, event: str) -> Iterator[Heard]:
        """What a stage said of an event."""
        for position in count():
            said = self.heard.get(derived_id(stage, event, position))
            if said is None:
                return
            yield said

    def known(self, effect: str) -> bool:
        """Whether an effect is recorded."""
        event, _, name = effect.partition("/")
        return any(each.name == name for each in self.effects[event])

    def ms(self, at: int | datetime) -> int:
        """Ms since the run's beginning."""
        if isinstance(at, datetime):
            at = int(at.replace(tzinfo=at.tzinfo or UTC).timestamp() * 1000)
        return at - self.zero

    def step_of(self, body: Any) -> str:
        """The step that an event is about, "" for none."""
        if isinstance(body, StepReady | DelegationRequested):
            return body.step.id
        return getattr(body, "step_id", "") or self._askers.get(getattr(body, "question_id", ""), "")


def _moment(entry_id: str) -> int:
    """An entry's time by its id; 0 for one that is none."""
    ms = entry_id.partition("-")[0]
    return min(int(ms), LATEST) if ms.isdecimal() and len(ms) <= 20 else 0
