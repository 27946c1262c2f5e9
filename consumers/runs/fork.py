"""Forks: a new run that shares another one's past up to an event, and goes on from there by itself.

The past is what had been handled when the event came, with the state that this had led to. What was said by then and
had not been handled, the event among it, is said anew, in the new run, each following from its original: so the chain
of causes leads back into the other run, while nothing the new one does can be taken for what that one did.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

import msgspec
from msgspec.structs import replace

from consumers.runs.state import STAGE, RunState
from consumers.sessions import Turn
from schemas.envelope import EVENT_BYTES, Envelope, derived_id, encode, too_large
from schemas.errors import InvalidInput
from schemas.events import CancelRequested, DeadlineSet, Event, GoalSubmitted, QuestionAsked
from schemas.plan import Limits, Spent
from streams.append import SUBMITTED
from streams.connection import Client
from streams.journal import Record, decoded, state_effect, state_hash
from streams.keys import Keys
from streams.replay import FORK, Input, Replay
from streams.tape import Tape
from streams.tape_context import TapeContext
from streams.topology import Topology

FORKED = "forked"
"""The field of a run's hash that holds whose past it shares, Origin in JSON."""
SHORTEST = 6
"""Characters of an event's id that are enough, if no other begins so."""


class Origin(msgspec.Struct, frozen=True):
    """Where a run was forked off: the other run, and the event."""

    run: str
    event: str


class Fork(NamedTuple):
    """All of a new run as it begins. `past` are the ids of the events that it shares, `effects` their journal."""

    origin: Origin
    run: str
    goal: Envelope[Event]
    version: int
    state: RunState
    past: tuple[str, ...]
    effects: dict[str, bytes]
    events: tuple[Envelope[Event], ...]


async def forked(
    tape: Tape, topology: Topology, at: str, run_id: str, edit: Mapping[str, Any] | None = None, model: str = ""
) -> Fork:
    """The fork of a run at an event, given by its id or the beginning of that. `edit` are fields of the event to be
    others. Raises InvalidInput `fork.*`, `event.malformed`."""
    fold = Replay(tape, topology)
    tape = fold.tape
    inputs = fold.inputs()
    event = _named(inputs, at)
    handled, version = _handled(fold, inputs, event)
    stage = topology.stage(STAGE)
    state = cast("RunState", fold.begun(stage))
    for one in inputs:
        if one.version and one.said.envelope.id in handled:
            context = TapeContext(tape.effects, one.said.envelope, one.said.arrived, state)
            done = await fold.handle(stage, one.said.envelope, context)
            if done.problem:
                raise InvalidInput(
                    "fork.changed",
                    f"The state before {event.id} can't be made again: {done.problem}",
                    f"`victoria replay {tape.run}` shows where it differs.",
                )
            state = done.state
    if state.finished:
        raise InvalidInput("fork.ended", f"At {event.id} the run had ended.", "Fork it at an earlier event.")
    shift = datetime.now(UTC) - event.at
    goal = next((s.envelope for s in fold.said.values() if isinstance(s.envelope.body, GoalSubmitted)), event)

    def anew(old: Envelope[Event]) -> Envelope[Event]:
        body = _unbound(old.body, tape, old.id, run_id, shift)
        if edit and old.id == event.id:
            body = _edited(body, edit)
        limits = old.limits
        if limits and limits.ends:
            limits = replace(limits, ends=limits.ends + shift)
        if model:
            limits = replace(limits or Limits(), model=model)
        id_ = derived_id(FORK, run_id, old.id)
        return Envelope(id_, run_id, body.version, datetime.now(UTC), old.trust, body, old.id, "", limits)

    waiting = {event.id: event}
    for one in inputs:
        old = one.said.envelope
        said_by_then = old.cause in handled if old.cause else one.said.at <= _at(fold, event)
        if old.id not in handled and said_by_then and not isinstance(old.body, CancelRequested):
            waiting.setdefault(old.id, old)
    events = tuple(map(anew, waiting.values()))
    first = anew(goal)
    return Fork(
        origin=Origin(tape.run, event.id),
        run=run_id,
        goal=replace(first, id=goal.id, cause=goal.cause),
        version=version,
        state=_renamed(state, tape.run, run_id, shift),
        past=tuple(handled),
        effects={effect: data for effect, data in tape.effects.items() if effect.partition("/")[0] in handled},
        events=events,
    )


async def publish(fork: Fork, client: Client, keys: Keys, topology: Topology) -> None:
    """Let a fork begin, all of it at once. Raises redis errors, InvalidInput `event.too_large`."""
    partition = keys.of_run(fork.run)
    run, journal = keys.run(partition, fork.run), keys.journal(fork.run)
    state = msgspec.json.encode(fork.state)
    begun = Record("state", state_hash(state), datetime.now(UTC), msgspec.Raw(state))
    kept: dict[str, Any] = {SUBMITTED: encode(fork.goal), FORKED: msgspec.json.encode(fork.origin)}
    if fork.version:
        kept |= {STAGE: state, f"{STAGE}.v": fork.version}
    records = {**fork.effects, state_effect(FORK, STAGE): msgspec.json.encode(begun)}
    pipeline: Any = client.pipeline(transaction=True)
    pipeline.hset(run, mapping=kept)
    pipeline.hset(journal, mapping=records)
    for event in fork.events:
        data, name = encode(event), type(event.body).__name__
        if len(data) > EVENT_BYTES:
            raise too_large(name, len(data))
        for stream in topology.routes[type(event.body)]:
            pipeline.xadd(keys.stream(partition, stream), {"type": name, "event": data})
    await pipeline.execute()


def _named(inputs: list[Input], at: str) -> Envelope[Event]:
    """The event that is meant. Raises InvalidInput `fork.event`, with those that can be."""
    found = {one.said.envelope.id: one.said.envelope for one in inputs}
    near = [id_ for id_ in found if id_ == at or (len(at) >= SHORTEST and id_.startswith(at))]
    if len(near) == 1:
        return found[near[0]]
    listed = "; ".join(f"{id_} {type(each.body).__name__}" for id_, each in found.items())
    raise InvalidInput("fork.event", f"No event {at[:40]!r} of this run is read by a stage.", f"There are: {listed}")


def _handled(fold: Replay, inputs: list[Input], event: Envelope[Event]) -> tuple[dict[str, None], int]:
    """The ids of the events that had been handled when this one came, and the version of the state by then."""
    limit, version, handled, whole = fold.said[event.id].arrived, 0, dict[str, None](), True
    for one in inputs:
        envelope = one.said.envelope
        follows = not envelope.cause or envelope.cause in handled or envelope.cause not in fold.said
        if envelope.id == event.id or not follows or _done(fold, one) > limit or (one.version and not whole):
            whole = whole and not one.version
            continue
        handled[envelope.id] = None
        version = one.version or version
    return handled, version


def _done(fold: Replay, one: Input) -> int:
    """When an event had been handled, ms since 1970: when what it led to came."""
    first = fold.said.get(derived_id(one.stage.name, one.said.envelope.id, 0))
    return first.arrived if first else one.said.arrived


def _at(fold: Replay, event: Envelope[Event]) -> tuple[int, int]:
    return fold.said[event.id].at


def _unbound(body: Event, tape: Tape, event_id: str, run_id: str, shift: timedelta) -> Event:
    """An event's content without what binds it to the other run: its session, its times, and its questions' ids."""
    match body:
        case GoalSubmitted():
            data = tape.effects.get(f"{event_id}/session")
            turn = msgspec.json.decode(decoded(data).result, type=Turn) if data else Turn()
            return replace(body, session="", history=turn.history or body.history, cache="off")
        case DeadlineSet():
            return replace(body, at=body.at + shift, question_id=_own(body.question_id, tape.run, run_id))
        case QuestionAsked():
            ends = body.expires and body.expires + shift
            return replace(body, question_id=_own(body.question_id, tape.run, run_id), expires=ends)
        case _:
            own: dict[str, Any] = {name: "" for name in ("session", "answer_key") if getattr(body, name, "")}
            if isinstance(spent := getattr(body, "spent", None), tuple):
                own["spent"] = _later(cast("tuple[Spent, ...]", spent), shift)
            return replace(body, **own) if own else body


def _later(spent: tuple[Spent, ...], shift: timedelta) -> tuple[Spent, ...]:
    return tuple(replace(each, at=each.at + shift) for each in spent)


def _edited(body: Event, edit: Mapping[str, Any]) -> Event:
    fields = msgspec.structs.fields(body)
    if unknown := sorted(edit.keys() - {field.encode_name for field in fields}):
        raise InvalidInput(
            "event.malformed",
            f"{type(body).__name__} has no field {unknown[0][:80]!r}.",
            f"It has {', '.join(field.encode_name for field in fields)}.",
        )
    try:
        return msgspec.convert({**msgspec.to_builtins(body), **edit}, type(body))
    except msgspec.ValidationError as problem:
        raise InvalidInput(
            "event.malformed", f"So it is no {type(body).__name__}: {problem}", "`victoria events` shows its fields."
        ) from problem


def _renamed(state: RunState, run: str, run_id: str, shift: timedelta) -> RunState:
    """A state whose questions and times are the new run's, and which is no turn of a session."""
    steps = {
        id_: replace(step, asking=replace(step.asking, id=_own(step.asking.id, run, run_id))) if step.asking else step
        for id_, step in state.steps.items()
    }
    return replace(
        state,
        session="",
        answer_key="",
        steps=steps,
        asked=tuple(_own(id_, run, run_id) for id_ in state.asked),
        spent=_later(state.spent, shift),
        planned_at=state.planned_at and state.planned_at + shift,
        begun_at=state.begun_at and state.begun_at + shift,
    )


def _own(question_id: str, run: str, run_id: str) -> str:
    return f"{run_id}{question_id[len(run) :]}" if question_id.startswith(f"{run}.") else question_id
