"""Replay: a run is folded again from its tape, and what comes of it is compared with what was recorded.

Each stage's handler is given its recorded event, and its recorded effects in place of models and the world; what it
says must be what is on the streams, by id and by content, and a stage's state must become what it was, change by
change. Nothing here can act: there is no server, and an effect that is not recorded ends the handling.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from schemas.envelope import UNREADABLE, Envelope, decode, derived_id
from schemas.errors import ErrorInfo, InvalidInput, JournalChanged
from schemas.events import Event, InferenceRequested
from schemas.plan import Trust
from streams.difference import first
from streams.journal import decoded, state_effect, state_hash
from streams.outcome import named, undeclared
from streams.stage import AnyStage, Snooze
from streams.tape import Tape
from streams.tape_context import Changed, TapeContext
from streams.topology import Topology

R = TypeVar("R")

FORK = "fork"
"""In place of an event id: what a forked run began with."""
NOT_OF_HANDLING = ("entry.poisoned", "entry.lost", "stage.timeout")
"""Why an entry was given up without its handler having said so."""
AGAIN_AT_MOST = 1_000
"""Times that a replay tries in vain whether an event changes nothing."""


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a replay comes to something else: at which stage, handling which event, in which `field` of what it says.

    `note` says what the field can't. Of text the whole is given, for a diff.
    """

    stage: str
    event: str
    type: str
    field: str
    recorded: Any = None
    replayed: Any = None
    note: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """What came of a replay. `incomplete` says that something was missing, and nothing else was different.

    `events` were handled again, and `outputs` compared; `asks` and `calls` were answered from the journal. `open` are
    events that had not been handled when the tape was made, or never were, since their run had ended.
    """

    run: str
    verdict: Literal["identical", "different", "incomplete"]
    ended: bool
    events: int
    outputs: int
    asks: int
    calls: int
    difference: Difference | None
    missing: tuple[str, ...]
    open: tuple[str, ...]


class Said(NamedTuple):
    """An event as it was recorded."""

    envelope: Envelope[Event]
    at: tuple[int, int]
    arrived: int


@dataclass(slots=True)
class Input:
    """One event that one stage has to handle. `version` is that of the state that came of it, 0 where none did."""

    stage: AnyStage
    said: Said
    order: tuple[int, int, int]
    version: int = 0


@dataclass(slots=True)
class Handling:
    """What came of one handling: what it said and the state it left, or the problem."""

    events: Sequence[Event] = ()
    trust: Trust = "user"
    state: Any = None
    problem: BaseException | None = None


@dataclass(slots=True)
class _Count:
    events: int = 0
    outputs: int = 0
    asks: int = 0
    calls: int = 0
    tried: int = 0
    missing: list[str] = field(default_factory=list[str])
    open: list[str] = field(default_factory=list[str])


async def replay(tape: Tape, topology: Topology, stage: str = "", events: Collection[str] | None = None) -> Verdict:
    """Fold a run again, up to the first difference. With `stage` only that stage's part, and of that only what became
    of these `events`, by their ids."""
    return await Replay(tape, topology, stage, events).verdict()


class Replay:
    """One `tape` being folded. `said` are its events by id, `stages` those that are replayed."""

    def __init__(self, tape: Tape, topology: Topology, stage: str = "", events: Collection[str] | None = None) -> None:
        self._only = events
        self.stages = [s for s in topology.stages if not s.reads.startswith("infer.") and stage in ("", s.name)]
        self._places = {s.name: number for number, s in enumerate(topology.stages)}
        self._count = _Count(missing=list(tape.missing))
        self.tape = msgspec.structs.replace(tape, effects=self._readable(tape.effects))
        self.said: dict[str, Said] = {}
        self._asked: dict[str, InferenceRequested] = {}
        self._states: dict[str, Any] = {}
        self._waiting: list[Input] = []
        self._drifted: Difference | None = None
        self._letters = {(letter.stage, letter.event_id): letter for letter in tape.letters}
        self._read()
        ends = [said.at[0] for said in self.said.values() if said.envelope.body.ends_run]
        self._ended, self._end = bool(ends), min(ends, default=0)

    async def verdict(self) -> Verdict:
        """See `replay`."""
        found = await self._first()
        count = self._count
        missing = tuple(dict.fromkeys(count.missing))
        if found or missing:  # else it was not needed
            missing += self.tape.perhaps
        return Verdict(
            run=self.tape.run,
            verdict="different" if found else "incomplete" if missing else "identical",
            ended=self._ended,
            events=count.events,
            outputs=count.outputs,
            asks=count.asks,
            calls=count.calls,
            difference=found,
            missing=missing,
            open=tuple(count.open),
        )

    def _readable(self, effects: Mapping[str, bytes]) -> dict[str, bytes]:
        """The journal without what can't be read, which is missing."""
        found: dict[str, bytes] = {}
        for effect, data in effects.items():
            try:
                decoded(data)
            except UNREADABLE:
                self._count.missing.append(f"the record {effect} can't be read")
            else:
                found[effect] = data
        return found

    def _kept(self, effect: str, kind: type[R]) -> R | None:
        """What a record of a state says, None where there is none or it can't be read."""
        data = self.tape.effects.get(effect)
        try:
            return msgspec.json.decode(decoded(data).result, type=kind) if data else None
        except UNREADABLE:
            self._count.missing.append(f"the record {effect} can't be read")
            return None

    def _read(self) -> None:
        for entry in self.tape.entries:
            try:
                envelope = decode(entry.type, bytes(entry.event))
            except InvalidInput as problem:
                self._count.missing.append(f"{entry.type} at {entry.stream} {entry.id} can't be read: {problem.code}")
                continue
            if isinstance(envelope.body, InferenceRequested):
                self._asked.setdefault(envelope.body.effect, envelope.body)
                continue
            said = Said(envelope, _at(entry.id), entry.arrived or _at(entry.id)[0])
            before = self.said.get(envelope.id)
            if before is None or said.arrived < before.arrived:
                self.said[envelope.id] = said
        for said in self.said.values():
            cause, run = said.envelope.cause, said.envelope.run
            if cause and cause not in self.said and said.envelope.id != derived_id(FORK, run, cause):
                self._count.missing.append(f"the event {cause}, which {type(said.envelope.body).__name__} follows from")

    def inputs(self) -> list[Input]:
        """All that is to be handled, in order: by time, and what changed a state in the order in which it did."""
        readers: dict[type[Event], list[AnyStage]] = {}
        for stage in self.stages:
            for kind in stage.accepts:
                readers.setdefault(kind, []).append(stage)
        inputs: list[Input] = []
        for said in self.said.values():
            for stage in readers.get(type(said.envelope.body), ()):
                one = Input(stage, said, (said.arrived, self._places[stage.name], said.at[1]))
                if stage.state:
                    one.version = self._kept(state_effect(said.envelope.id, stage.name), int) or 0
                inputs.append(one)
        latest = (0, 0, 0)
        for one in sorted((each for each in inputs if each.version), key=lambda each: each.version):
            latest = one.order = max(latest, one.order)
        return sorted(inputs, key=lambda each: (each.order, each.version))

    async def _first(self) -> Difference | None:
        for stage in self.stages:
            if stage.state:
                self._states[stage.name] = self.begun(stage)
        for one in self.inputs():
            if self._only is not None and not one.stage.state and one.said.envelope.id not in self._only:
                continue
            self._count.events += 1
            found = await self._handled(one)
            if found and (self._only is None or one.said.envelope.id in self._only):
                return found
            if one.version and self._waiting:
                await self._again()
        return await self._last()

    def begun(self, stage: AnyStage) -> Any:
        """The state that a stage begins with: a fork's is what it was forked with."""
        assert stage.state  # noqa: S101 - only asked for where the stage has one
        return self._kept(state_effect(FORK, stage.name), stage.state) or stage.state()

    async def _handled(self, one: Input, *, last: bool = False) -> Difference | None:
        """One event handled again, and what became of it compared. `last` says that no other event comes after it."""
        stage, envelope = one.stage, one.said.envelope
        before = self._states.get(stage.name)
        letter = self._letters.get((stage.name, envelope.id))
        context = TapeContext(self.tape.effects, envelope, one.said.arrived, before)
        done = await self.handle(stage, envelope, context)
        self._count.asks, self._count.calls = self._count.asks + context.asks, self._count.calls + context.calls
        if letter and (done.problem or letter.error.code in NOT_OF_HANDLING):
            return self._compared(one, await self._given_up(one, letter.error))
        if context.changed and not self._drifted:
            return self._asked_otherwise(one, context.changed)
        if done.problem:
            return self._not_handled(one, done.problem, context.lacks)
        if stage.state and (done.state is not before) != bool(one.version) and not self._drifted:
            if one.version:
                return self._of(one, "state", note="It changed the state then, and now it does not.")
            if not last:
                self._waiting.append(one)  # it may have come too late to change anything
                return None
            return self._unsaid(one, "state", "It changes the state now, and did not then.")
        if found := self._compared(one, done):
            if letter:
                return self._of(one, "outcome", letter.error, None, "It was given up then, and is handled now.")
            return found
        if stage.state and done.state is not before:
            self._states[stage.name] = done.state
            self._compare_state(one, done.state)
        return None

    async def handle(self, stage: AnyStage, envelope: Envelope[Event], context: TapeContext) -> Handling:
        """Have a stage handle an event."""
        try:
            events = tuple(await stage.handle(envelope.body, context))
        except Exception as problem:
            return Handling(problem=problem)
        for event in events:
            if type(event) not in stage.emits:
                return Handling(problem=JournalChanged(*_parts(undeclared(stage, event))))
        return Handling(events, context.trust, context.state)

    async def _given_up(self, one: Input, error: ErrorInfo) -> Handling:
        """What the stage says of an event that it gave up, for the recorded reason."""
        envelope = one.said.envelope
        if one.stage.on_dead is None:
            return Handling()
        context = TapeContext(self.tape.effects, envelope, one.said.arrived, None)
        try:
            return Handling(tuple(await one.stage.on_dead(envelope.body, error, context)), envelope.trust)
        except Exception as problem:
            return Handling(problem=problem)

    def _compared(self, one: Input, done: Handling) -> Difference | None:
        """What was said held against what is recorded."""
        if self._drifted:
            return None
        cause = one.said.envelope
        for position, event in enumerate(done.events):
            id_ = derived_id(one.stage.name, cause.id, position)
            recorded = self.said.get(id_)
            if recorded is None:
                said = {type(event).__name__: msgspec.to_builtins(event)}
                return self._unsaid(one, f"says[{position}]", "It says what is not recorded.", said)
            then = recorded.envelope
            now = Envelope(
                id_, cause.run, event.version, then.at, done.trust, event, cause.id, then.traceparent, cause.limits
            )
            self._count.outputs += 1
            if then == now and type(then.body) is type(event):
                continue
            kind = type(then.body).__name__
            if type(then.body) is not type(event):
                return self._of(one, f"says[{position}]", kind, type(event).__name__)
            if place := first(then.body, event, kind) or first(then, now, kind):
                return self._of(one, *place)
        extra = self.said.get(derived_id(one.stage.name, cause.id, len(done.events)))
        if extra:
            kind = type(extra.envelope.body).__name__
            said = {kind: msgspec.to_builtins(extra.envelope.body)}
            return self._of(one, f"says[{len(done.events)}]", said, None, "It does not say what is recorded.")
        return None

    def _compare_state(self, one: Input, state: Any) -> None:
        """A state that is another is shown at the end, when it is known in full."""
        data = self.tape.effects.get(state_effect(one.said.envelope.id, one.stage.name))
        if data and not self._drifted and decoded(data).request != state_hash(msgspec.json.encode(state)):
            self._drifted = self._of(one, "state", note="The state after it is another.")

    async def _again(self) -> None:
        """Try once more whether what waits changes nothing, on the state as it is now."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            self._count.tried += 1
            if self._count.tried > AGAIN_AT_MOST:
                self._waiting.append(one)
            else:
                await self._handled(one)

    async def _last(self) -> Difference | None:
        for one in self._waiting:
            if found := await self._handled(one, last=True):
                return found
        for name, state in self._states.items():
            last = self.tape.states.get(name)
            if last is None or self._only is not None or (self._count.open and not self._drifted):
                continue
            kind = next(stage.state for stage in self.stages if stage.name == name)
            try:
                place = first(msgspec.json.decode(last.data, type=kind), state, "state") if kind else None
            except UNREADABLE:
                self._count.missing.append(f"the last state of {name} can't be read")
                continue
            if place and self._drifted:
                return msgspec.structs.replace(
                    self._drifted, field=place.field, recorded=place.one, replayed=place.other
                )
            if place:
                return Difference(name, "", "", *place, note="The last state is another.")
        return self._drifted

    def _asked_otherwise(self, one: Input, changed: Changed) -> Difference:
        name = changed.effect.partition("/")[2]
        asked = self._asked.get(changed.effect)
        if asked:
            then = {"messages": asked.messages, "max_tokens": asked.max_tokens}
            if place := first(then, changed.wanted, f"question {name}"):
                return self._of(one, *place, note="It asks a model something else.")
        note = "It is recorded for another request, of which only the hash is known."
        return self._of(one, f"request {name}", None, msgspec.to_builtins(changed.wanted), note)

    def _not_handled(self, one: Input, problem: BaseException, lacks: str) -> Difference | None:
        """Where handling ends in an exception: was it so then?"""
        said = bool(one.version) or derived_id(one.stage.name, one.said.envelope.id, 0) in self.said
        if not said and (lacks or isinstance(problem, Snooze) or not self._ended or one.stage.policy.stops_with_run):
            self._count.open.append(self._named(one))
            return None
        if lacks and not self.tape.effects:
            self._count.missing.append("the journal")
            return None
        if lacks:
            return self._of(one, "effects", None, lacks.partition("/")[2], "It wants an effect that is not recorded.")
        return self._of(one, "outcome", "handled", named(problem), "It fails now, and did not then.")

    def _unsaid(self, one: Input, where: str, note: str, replayed: Any = None) -> Difference | None:
        """Something comes of it that is not recorded. It need not have been handled, or the record may be lost."""
        nothing = derived_id(one.stage.name, one.said.envelope.id, 0) not in self.said
        afterwards = self._ended and one.said.at[0] >= self._end
        if nothing and (not self._ended or afterwards or one.stage.policy.stops_with_run):
            self._count.open.append(self._named(one))
            return None
        if self.tape.missing:
            self._count.missing.append(f"what {self._named(one)} led to")
            return None
        return self._of(one, where, None, replayed, note)

    def _named(self, one: Input) -> str:
        return f"{one.stage.name} {type(one.said.envelope.body).__name__} {one.said.envelope.id}"

    def _of(self, one: Input, where: str, recorded: Any = None, replayed: Any = None, note: str = "") -> Difference:
        envelope = one.said.envelope
        kind = type(envelope.body).__name__
        return Difference(one.stage.name, envelope.id, kind, where, recorded, replayed, note)


def _at(entry_id: str) -> tuple[int, int]:
    """An entry's id in parts; of one that is none, zeros."""
    ms, _, number = entry_id.partition("-")
    return (int(ms), int(number)) if ms.isdecimal() and number.isdecimal() and len(entry_id) < 42 else (0, 0)


def _parts(error: ErrorInfo) -> tuple[str, str, str]:
    return error.code, error.message, error.hint
