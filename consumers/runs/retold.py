"""A run's tape, retold as its timeline. A pure function.

Nothing is made up. When an event came, its stream says; when it had been handled, the events that followed from it; how
long a model or a tool was at work, the journal. When a worker began with an event is recorded nowhere: time of which
nothing is known is neither waiting nor work.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count, pairwise
from typing import Any, NamedTuple

import msgspec

from consumers import clock
from consumers.agents.http import Delivery
from consumers.delegate import WORK
from consumers.runs.end import UNLOCKS
from consumers.runs.state import STAGE, RunState
from consumers.runs.timeline import Cause, Failed, Row, Spans, Timeline, in_order, judged, length, union
from consumers.runs.view import status_of
from llm.prompts import excerpt
from schemas.envelope import UNREADABLE, Envelope, decode, derived_id
from schemas.errors import InvalidInput
from schemas.events import (
    DeadlinePassed,
    DelegationRequested,
    Event,
    GoalSubmitted,
    InferenceRequested,
    PlanProposed,
    QuestionAnswered,
    QuestionAsked,
    RunFinished,
    RunProgressed,
    StepReady,
)
from schemas.plan import Step, Usage
from streams.entry import LATEST
from streams.journal import Record, decoded, state_effect
from streams.outcome import Try
from streams.replay import FORK
from streams.tape import Entry, Tape
from streams.topology import Topology

GOAL, TITLE, NAME = 2_000, 200, 80
"""Characters of a goal, and of rows' titles and names."""
LONGEST = 1e9
"""Seconds for which anything can have been at work."""
MOST = 10**12
"""No count of tokens or attempts is larger, whatever a file says."""
SKEW = 250
"""Ms by which clocks may differ without a word about it."""


class _Heard(msgspec.Struct):
    """An event: on which streams it came, when first and each further time, in ms since 1970; how often it was handled,
    None where that is not known, and what then failed."""

    envelope: Envelope[Event]
    streams: set[str]
    came: list[int]
    attempts: int | None = None
    history: tuple[Try, ...] = ()

    @property
    def id(self) -> str:
        return self.envelope.id

    @property
    def body(self) -> Any:
        return self.envelope.body

    @property
    def type(self) -> str:
        return type(self.envelope.body).__name__


class _Effect(NamedTuple):
    """Something that was asked or called. `name` is unique within its event."""

    name: str
    record: Record


class _Whose(msgspec.Struct):
    id: str = ""


def retold(tape: Tape, topology: Topology, now: int | None = None) -> Timeline:
    """The timeline of a run. `now`, ms since 1970, is up to when it goes if the run has not ended."""
    return _Telling(tape, topology, now).timeline()


class _Telling:
    """What a tape says, by what is looked for."""

    def __init__(self, tape: Tape, topology: Topology, now: int | None) -> None:
        self._tape, self._topology = tape, topology
        self._missing, self._rows = list(tape.missing), dict[str, Row]()
        self._heard, self._asked = dict[str, _Heard](), dict[str, _Heard]()
        self._effects, self._changes = defaultdict[str, list[_Effect]](list), dict[str, datetime]()
        for entry in tape.entries:
            self._hear(entry)
        for effect, data in tape.effects.items():
            self._recall(effect, data)
        self._letters = {(letter.stage, _id_of(letter.event)): letter for letter in tape.letters}
        self._zero = min((h.came[0] for h in self._of(GoalSubmitted) or self._heard.values()), default=0)
        self._last = next(iter(self._of(RunFinished)), None)
        self._end = self._ms(self._last.came[0]) if self._last else None
        self._now = None if now is None or self._last else self._ms(now)
        self._summaries = {each.id: each for each in self._last.body.metadata.steps} if self._last else {}
        state = tape.states.get(STAGE)
        try:
            self._state = msgspec.json.decode(state.data, type=RunState) if state else RunState()
        except UNREADABLE:
            self._state = RunState()
            self._missing.append("its last state, which can't be read")
        self._askers = {each.body.question_id: each.body.step_id for each in self._of(QuestionAsked)}
        self._of_steps, self._of_questions = defaultdict[str, list[_Heard]](list), defaultdict[str, list[_Heard]](list)
        for heard in sorted(self._heard.values(), key=lambda each: each.came[0]):
            self._of_steps[self._step_of(heard.body)].append(heard)
            if isinstance(heard.body, QuestionAnswered | DeadlinePassed):
                self._of_questions[heard.body.question_id].append(heard)
        self._sayers, self._handlers = dict[str, str](), dict[str, str]()

    def timeline(self) -> Timeline:
        """All of it."""
        handled = [(stage.name, heard) for heard in self._heard.values() for stage in self._readers(heard)]
        for stage, heard in handled:
            row = f"stage:{stage}/{heard.id}"
            self._handlers.setdefault(heard.id, row)
            self._sayers.update((said.id, row) for said in self._said(stage, heard.id))
        rows = [self._handling(stage, heard) for stage, heard in handled]
        rows += [self._effect(event, each) for event, effects in self._effects.items() for each in effects]
        rows += [self._unanswered(effect, heard) for effect, heard in self._asked.items() if not self._known(effect)]
        rows += [
            self._undone(heard) for heard in self._of(DelegationRequested) if not self._known(f"{heard.id}/{WORK}")
        ]
        rows += [self._question(heard) for heard in self._of(QuestionAsked)]
        parts = defaultdict[str, list[Row]](list)
        for row in rows:
            parts[row.parent].append(row)
        rows += [self._step(step, [*_inside(f"step:{step.id}", parts)]) for step in self._planned()]
        rows = in_order(rows)
        until = max((at for row in rows for at in (row.start, row.end) if at is not None), default=0)
        end = self._last.body if self._last else None
        goal = next((heard.body.goal for heard in self._of(GoalSubmitted)), self._state.goal)
        return Timeline(
            run=self._tape.run,
            goal=excerpt(goal, GOAL),
            status=end.status if end else status_of(self._state),
            method=end.method if end else "",
            began=datetime.fromtimestamp(self._zero / 1000, UTC) if self._zero else None,
            end=self._end,
            until=max(until, self._now or 0, 1),
            tokens_in=sum(row.tokens_in or 0 for row in rows if row.kind in ("model", "delegation")),
            tokens_out=sum(row.tokens_out or 0 for row in rows if row.kind in ("model", "delegation")),
            error=end.error if end else None,
            missing=tuple(dict.fromkeys(self._missing)),
            notes=tuple(self._notes(rows)),
            rows=judged(rows, until, {STAGE, clock.NAME}),
        )

    def _hear(self, entry: Entry) -> None:
        try:
            envelope = decode(entry.type, bytes(entry.event))
        except InvalidInput as problem:
            self._missing.append(f"{entry.type[:NAME]} at {entry.stream} {entry.id}: {problem.code}")
            return
        body = envelope.body
        kept, key = (self._asked, body.effect) if isinstance(body, InferenceRequested) else (self._heard, envelope.id)
        heard = kept.setdefault(key, _Heard(envelope, set(), []))
        ms = _moment(entry.id)
        heard.streams.add(entry.stream)
        heard.came = sorted({*heard.came, ms, *([entry.arrived] if 0 < entry.arrived < ms else [])})
        if entry.attempt:
            heard.attempts = max(heard.attempts or 1, _count(entry.attempt))
        heard.history = max(heard.history, entry.history, key=len)

    def _recall(self, effect: str, data: bytes) -> None:
        event, _, name = effect.partition("/")
        try:
            record = decoded(data)
        except msgspec.DecodeError:
            self._missing.append(f"the record {effect[:NAME]}, which can't be read")
            return
        if record.kind == "state":
            self._changes[effect] = record.at
        elif event in self._heard or not self._forked:
            self._effects[event].append(_Effect(name, record))

    @property
    def _forked(self) -> bool:
        """Whether its journal has effects of another run's past."""
        return any(effect.startswith(f"{FORK}/") for effect in self._tape.effects)

    def _of(self, kind: type[Event]) -> list[_Heard]:
        return sorted((h for h in self._heard.values() if isinstance(h.body, kind)), key=lambda h: h.came[0])

    def _readers(self, heard: _Heard) -> list[Any]:
        return [s for s in self._topology.stages if s.reads in heard.streams and isinstance(heard.body, s.accepts)]

    def _said(self, stage: str, event: str) -> Iterator[_Heard]:
        """What a stage said of an event."""
        for position in count():
            said = self._heard.get(derived_id(stage, event, position))
            if said is None:
                return
            yield said

    def _known(self, effect: str) -> bool:
        event, _, name = effect.partition("/")
        return any(each.name == name for each in self._effects[event])

    def _ms(self, at: int | datetime) -> int:
        """Ms since the run's beginning."""
        if isinstance(at, datetime):
            at = int(at.replace(tzinfo=at.tzinfo or UTC).timestamp() * 1000)
        return at - self._zero

    def _cause(self, heard: _Heard) -> Cause:
        return Cause(heard.id, heard.type, self._sayers.get(heard.id, ""))

    def _handling(self, stage: str, heard: _Heard) -> Row:
        """An event in a stage's hands."""
        letter, changed = self._letters.get((stage, heard.id)), self._changes.get(state_effect(heard.id, stage))
        said = next(self._said(stage, heard.id), None)
        end = self._ms(said.came[0]) if said else self._ms(changed) if changed else None
        history = letter.history if letter else heard.history
        work = union(self._work(each.record) for each in self._effects[heard.id])
        step = self._step_of(heard.body)
        return Row(
            id=f"stage:{stage}/{heard.id}",
            parent=f"step:{step}" if step else "",
            kind="stage",
            name=stage,
            title=heard.type,
            start=self._ms(heard.came[0]),
            end=end,
            open=end is None and letter is None and self._end is None,
            waits=self._put_off(heard, history, work, end),
            working=length(work) if self._effects[heard.id] else None,
            attempts=_count(letter.attempts) if letter else heard.attempts,
            tries=tuple(Failed(_count(each.attempt), self._ms(each.at), each.error) for each in history),
            expert=heard.body.step.expert if isinstance(heard.body, StepReady) else "",
            cause=self._cause(heard),
            status="dead" if letter else "ok" if end is not None else "open" if self._end is None else "unknown",
            error=letter.error if letter else None,
        )

    def _put_off(self, heard: _Heard, history: Sequence[Try], work: Spans, done: int | None) -> Spans:
        """When an event was in nobody's hands: from when it is known to have been let go until it came once more."""
        known = [*(self._ms(each.at) for each in history), *(end for _, end in work)]
        came = [at for at in map(self._ms, heard.came) if done is None or at <= done]
        return union((max([before, *(at for at in known if at <= after)]), after) for before, after in pairwise(came))

    def _work(self, record: Record) -> tuple[int, int]:
        """When a model or an action was at work."""
        end = self._ms(record.at)
        return end - round(1000 * min(max(record.seconds, 0), LONGEST)), end

    def _step_of(self, body: Any) -> str:
        """The step that an event is about, "" for none."""
        if isinstance(body, StepReady | DelegationRequested):
            return body.step.id
        return getattr(body, "step_id", "") or self._askers.get(getattr(body, "question_id", ""), "")

    def _effect(self, event: str, effect: _Effect) -> Row:
        """Something that a handler asked or called."""
        record, heard = effect.record, self._heard.get(event)
        began, end = self._work(record)
        measured = record.kind == "call" or record.seconds > 0  # what failed may not say for how long it was at work
        asked = self._asked.get(f"{event}/{effect.name}") if record.kind == "ask" else None
        start = self._ms(asked.came[0]) if asked else began
        row = Row(
            id=f"effect:{event}/{effect.name}",
            parent=self._handlers.get(event, ""),
            kind="model" if record.kind == "ask" else "call",
            name=effect.name[:NAME],
            start=start,
            end=end,
            waits=union([(start, began)] if measured else []),
            working=end - began if measured else None,
            attempts=asked.attempts if asked else None,
            cause=self._cause(heard) if heard else Cause(event, ""),
            status="failed" if record.error else "ok",
            error=record.error,
        )
        if record.kind == "ask":
            return _with(row, record.usage)
        if heard and isinstance(heard.body, DelegationRequested) and effect.name == WORK:
            return _delegated(row, heard.body.step.agent, record)
        if heard and isinstance(heard.body, StepReady) and effect.name.partition("-")[0] == "tool":
            return self._tool(row, heard, effect.name)
        return row

    def _tool(self, row: Row, heard: _Heard, name: str) -> Row:
        """A use of a tool, with what it was called with: by a rule, by a model in the loop's same round, or before a
        person was asked."""
        ready: StepReady = heard.body
        call: dict[str, Any] = {}
        if ready.step.call:
            call = {"tool": ready.step.call.tool, **ready.step.call.arguments}
        else:
            number = name.partition("-")[2]
            said = [each for each in self._effects[heard.id] if _is_try(each.name, f"act-{number}")]
            pending = ready.progress.pending if ready.progress and str(ready.progress.rounds) == number else ""
            for text in (pending, *(_text(each.record) for each in said)):
                call = _object(text) or call
        arguments = (str(value) for key, value in call.items() if key not in ("tool", "thought"))
        tool = str(call.get("tool", "")) or name
        return msgspec.structs.replace(row, kind="tool", name=tool[:NAME], title=cut(" ".join(arguments)))

    def _unanswered(self, effect: str, asked: _Heard) -> Row:
        """A question to a model of which no answer is recorded."""
        event, _, name = effect.partition("/")
        return Row(
            id=f"effect:{effect}",
            parent=self._handlers.get(event, ""),
            kind="model",
            name=name[:NAME],
            start=self._ms(asked.came[0]),
            open=self._end is None,
            attempts=asked.attempts,
            model=asked.body.model,
            cause=self._cause(self._heard[event]) if event in self._heard else Cause(event, ""),
            status="open" if self._end is None else "unknown",
        )

    def _undone(self, heard: _Heard) -> Row:
        """A work that another agent was to do, and of which nothing is recorded."""
        done = next(self._said("delegate", heard.id), None)
        goes_on = done is None and self._end is None
        return Row(
            id=f"effect:{heard.id}/{WORK}",
            parent=self._handlers.get(heard.id, ""),
            kind="delegation",
            name=heard.body.step.agent[:NAME],
            start=self._ms(heard.came[0]),
            open=goes_on,
            cause=self._cause(heard),
            status="open" if goes_on else "unknown",
        )

    def _question(self, heard: _Heard) -> Row:
        """A question to a person, from when the run heard of it."""
        asked: QuestionAsked = heard.body
        first = next(iter(self._of_questions[asked.question_id]), None)
        said = f" → {cut(first.body.answer)}" if first and isinstance(first.body, QuestionAnswered) else ""
        start = self._ms(heard.came[0])
        end = self._ms(first.came[0]) if first else self._end
        return Row(
            id=f"question:{asked.question_id}",
            parent=f"step:{asked.step_id}",
            kind="question",
            name="approval" if asked.approval else "question",
            title=cut(asked.question) + said,
            start=start,
            end=end,
            open=end is None,
            waits=union([(start, end)]) if end is not None else (),
            working=0,
            cause=self._cause(heard),
            status="answered" if said else "expired" if first else "open" if end is None else "unanswered",
        )

    def _planned(self) -> list[Step]:
        """All steps that were ever planned or begun."""
        plans = [heard.body.plan for heard in self._of(PlanProposed)] + [self._state.plan] * bool(self._state.plan)
        steps = {step.id: step for plan in plans if plan for step in plan.steps}
        if self._state.plan:  # what was planned anew has other steps, or others' ids
            steps = {step.id: step for step in self._state.plan.steps}
        begun = [*self._of(StepReady), *self._of(DelegationRequested)]
        return list((steps | {heard.body.step.id: heard.body.step for heard in begun}).values())

    def _step(self, step: Step, inside: Sequence[Row]) -> Row:
        """A step of the plan, from when it was first to begin until the run heard of its end."""
        heard = self._of_steps[step.id]
        begun = [each for each in heard if isinstance(each.body, StepReady | DelegationRequested)]
        ends = [each for each in heard if isinstance(each.body, RunProgressed) and each.body.kind == "task_end"]
        now, summary = self._state.steps.get(step.id), self._summaries.get(step.id)
        known = now or summary
        status = known.status if known else ends[-1].body.status if ends else "running" if begun else "pending"
        end = self._ms(ends[-1].came[0]) if ends else self._end if begun else None
        handled = [row for row in inside if row.kind == "stage" and row.name != STAGE]
        cost = [row for row in inside if row.tokens_in is not None]
        return Row(
            id=f"step:{step.id}",
            kind="step",
            name=step.id[:NAME],
            title=cut(step.title),
            start=self._ms(begun[0].came[0]) if begun else None,
            end=end,
            open=bool(begun) and end is None,
            waits=union(span for row in inside for span in row.waits),
            working=sum(row.working or 0 for row in handled) if handled else None,
            attempts=1 + sum((row.attempts or 1) - 1 for row in handled)
            if handled and all(row.attempts for row in handled)
            else None,
            tokens_in=sum(row.tokens_in or 0 for row in cost) if cost else None,
            tokens_out=sum(row.tokens_out or 0 for row in cost) if cost else None,
            tokens_cached=sum(row.tokens_cached or 0 for row in cost) if cost else None,
            expert=(known.expert if known else "") or step.expert,
            cause=self._cause(begun[0]) if begun else None,
            status=status or "",
            error=known.error if known and status not in UNLOCKS else None,
        )

    def _notes(self, rows: Sequence[Row]) -> Iterator[str]:
        by_id = {row.id: row for row in rows}
        if self._forked:
            yield "It was forked off another run: what it shares with that is not shown here."
        if self._last is None and self._now is None:
            yield "It had not ended when it was recorded."
        if any(_outside(row, by_id[row.parent]) for row in rows if row.parent):
            yield "The clocks of workers and server differ: models and tools have the workers' time, all else its own."


def _inside(parent: str, parts: Mapping[str, Sequence[Row]]) -> Iterator[Row]:
    """All rows that are parts of a row, or of one of its parts."""
    for row in parts.get(parent, ()):
        yield row
        yield from _inside(row.id, parts)


def _outside(row: Row, whole: Row) -> bool:
    """Whether something was done at a time at which nobody did it."""
    if row.kind not in ("model", "tool", "call", "delegation") or row.end is None:
        return False
    return (whole.end is not None and row.end > whole.end + SKEW) or row.end < (whole.start or 0) - SKEW


def _with(row: Row, usage: Usage) -> Row:
    """A question to a model, or a work, with what it cost; nothing is known of one that no model answered."""
    tokens = usage if usage.calls else None
    return msgspec.structs.replace(
        row,
        tokens_in=tokens and _count(tokens.tokens_in),
        tokens_out=tokens and _count(tokens.tokens_out),
        tokens_cached=tokens and _count(tokens.cached),
        model=usage.model,
        node=usage.node,
    )


def _delegated(row: Row, agent: str, record: Record) -> Row:
    row = msgspec.structs.replace(row, kind="delegation", name=agent[:NAME])
    try:
        return _with(row, msgspec.json.decode(record.result, type=Delivery).usage)
    except UNREADABLE:
        return row


def _count(number: int) -> int:
    """A number of something, where a file may say any."""
    return min(max(number, 0), MOST)


def cut(text: str) -> str:
    """A title in one line."""
    flat = " ".join(text[: 4 * TITLE].split())
    return flat if len(flat) <= TITLE else flat[: TITLE - 1] + "…"


def _is_try(name: str, asked: str) -> bool:
    """Whether an effect is the question of that name, or another try of it."""
    return name == asked or (name.startswith(f"{asked}.") and name[len(asked) + 1 :].isdecimal())


def _text(record: Record) -> str:
    """What a model answered."""
    try:
        return msgspec.json.decode(record.result, type=str)
    except UNREADABLE:
        return ""


def _object(text: str) -> dict[str, Any]:
    """The object that a text is in JSON, {} for anything else."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except UNREADABLE:
        return {}


def _id_of(event: str) -> str:
    """The id of an event in a dead letter, "" where it has none."""
    try:
        return msgspec.json.decode(event, type=_Whose).id
    except UNREADABLE:
        return ""


def _moment(entry_id: str) -> int:
    """An entry's time by its id; 0 for one that is none."""
    ms = entry_id.partition("-")[0]
    return min(int(ms), LATEST) if ms.isdecimal() and len(ms) <= 20 else 0
