"""A run's tape, retold as its timeline. A pure function.

Nothing is made up. When an event came, its stream says; when it had been handled, the events that followed from it; how
long a model or a tool was at work, the journal. When a worker began with an event is recorded nowhere: time of which
nothing is known is neither waiting nor work.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec

from consumers import clock
from consumers.agents.http import Delivery
from consumers.delegate import WORK
from consumers.runs.end import UNLOCKS
from consumers.runs.recorded import Effect, Heard, Recorded
from consumers.runs.state import STAGE
from consumers.runs.timeline import NAME, Cause, Failed, Row, Spans, Timeline, counted, in_order, judged, length, union
from consumers.runs.view import status_of
from llm.prompts import excerpt
from schemas.envelope import UNREADABLE
from schemas.events import (
    DelegationRequested,
    GoalSubmitted,
    PlanProposed,
    QuestionAnswered,
    QuestionAsked,
    RunProgressed,
    StepReady,
)
from schemas.plan import Step, Usage
from streams.journal import Record, state_effect
from streams.outcome import Try
from streams.tape import Tape
from streams.topology import Topology

GOAL, TITLE = 2_000, 200
"""Characters of a goal, and of rows' titles."""
LONGEST = 1e9
"""Seconds for which anything can have been at work."""
SKEW = 250
"""Ms by which clocks may differ without a word about it."""


def retold(tape: Tape, topology: Topology, now: int | None = None) -> Timeline:
    """The timeline of a run. `now`, ms since 1970, is up to when it goes if the run has not ended."""
    return _Telling(Recorded(tape, topology, now)).timeline()


class _Telling:
    """What is recorded of a run, turned into rows."""

    def __init__(self, run: Recorded) -> None:
        self._run = run
        self._sayers, self._handlers = dict[str, str](), dict[str, str]()

    def timeline(self) -> Timeline:
        """All of it."""
        handled = [(stage.name, heard) for heard in self._run.heard.values() for stage in self._run.readers(heard)]
        for stage, heard in handled:
            row = f"stage:{stage}/{heard.id}"
            self._handlers.setdefault(heard.id, row)
            self._sayers.update((said.id, row) for said in self._run.said(stage, heard.id))
        rows = [self._handling(stage, heard) for stage, heard in handled]
        rows += [self._effect(event, each) for event, effects in self._run.effects.items() for each in effects]
        rows += [
            self._unanswered(effect, heard) for effect, heard in self._run.asked.items() if not self._run.known(effect)
        ]
        rows += [
            self._undone(heard)
            for heard in self._run.of(DelegationRequested)
            if not self._run.known(f"{heard.id}/{WORK}")
        ]
        rows += [self._question(heard) for heard in self._run.of(QuestionAsked)]
        parts = defaultdict[str, list[Row]](list)
        for row in rows:
            parts[row.parent].append(row)
        rows += [self._step(step, [*_inside(f"step:{step.id}", parts)]) for step in self._planned()]
        rows = in_order(rows)
        until = max((at for row in rows for at in (row.start, row.end) if at is not None), default=0)
        end = self._run.last.body if self._run.last else None
        goal = next((heard.body.goal for heard in self._run.of(GoalSubmitted)), self._run.state.goal)
        return Timeline(
            run=self._run.id,
            goal=excerpt(goal, GOAL),
            status=end.status if end else status_of(self._run.state),
            method=end.method if end else "",
            began=datetime.fromtimestamp(self._run.zero / 1000, UTC) if self._run.zero else None,
            end=self._run.end,
            until=max(until, self._run.now or 0, 1),
            tokens_in=sum(row.tokens_in or 0 for row in rows if row.kind in ("model", "delegation")),
            tokens_out=sum(row.tokens_out or 0 for row in rows if row.kind in ("model", "delegation")),
            error=end.error if end else None,
            missing=tuple(dict.fromkeys(self._run.missing)),
            notes=tuple(self._notes(rows)),
            rows=judged(rows, until, {STAGE, clock.NAME}),
        )

    def _cause(self, heard: Heard) -> Cause:
        return Cause(heard.id, heard.type, self._sayers.get(heard.id, ""))

    def _handling(self, stage: str, heard: Heard) -> Row:
        """An event in a stage's hands."""
        letter, changed = self._run.letters.get((stage, heard.id)), self._run.changes.get(state_effect(heard.id, stage))
        said = next(self._run.said(stage, heard.id), None)
        end = self._run.ms(said.came[0]) if said else self._run.ms(changed) if changed else None
        history = letter.history if letter else heard.history
        work = union(self._work(each.record) for each in self._run.effects[heard.id])
        step = self._run.step_of(heard.body)
        return Row(
            id=f"stage:{stage}/{heard.id}",
            parent=f"step:{step}" if step else "",
            kind="stage",
            name=stage,
            title=heard.type,
            start=self._run.ms(heard.came[0]),
            end=end,
            open=end is None and letter is None and self._run.end is None,
            waits=self._put_off(heard, history, work, end),
            working=length(work) if self._run.effects[heard.id] else None,
            attempts=counted(letter.attempts) if letter else heard.attempts,
            tries=tuple(Failed(counted(each.attempt), self._run.ms(each.at), each.error) for each in history),
            expert=heard.body.step.expert if isinstance(heard.body, StepReady) else "",
            cause=self._cause(heard),
            status="dead" if letter else "ok" if end is not None else "open" if self._run.end is None else "unknown",
            error=letter.error if letter else None,
        )

    def _put_off(self, heard: Heard, history: Sequence[Try], work: Spans, done: int | None) -> Spans:
        """When an event was in nobody's hands: from when it is known to have been let go until it came once more."""
        known = [*(self._run.ms(each.at) for each in history), *(end for _, end in work)]
        came = [at for at in map(self._run.ms, heard.came) if done is None or at <= done]
        return union((max([before, *(at for at in known if at <= after)]), after) for before, after in pairwise(came))

    def _work(self, record: Record) -> tuple[int, int]:
        """When a model or an action was at work."""
        end = self._run.ms(record.at)
        return end - round(1000 * min(max(record.seconds, 0), LONGEST)), end

    def _effect(self, event: str, effect: Effect) -> Row:
        """Something that a handler asked or called."""
        record, heard = effect.record, self._run.heard.get(event)
        began, end = self._work(record)
        measured = record.kind == "call" or record.seconds > 0  # what failed may not say for how long it was at work
        asked = self._run.asked.get(f"{event}/{effect.name}") if record.kind == "ask" else None
        start = self._run.ms(asked.came[0]) if asked else began
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

    def _tool(self, row: Row, heard: Heard, name: str) -> Row:
        """A use of a tool, with what it was called with: by a rule, by a model in the loop's same round, or before a
        person was asked."""
        ready: StepReady = heard.body
        call: dict[str, Any] = {}
        if ready.step.call:
            call = {"tool": ready.step.call.tool, **ready.step.call.arguments}
        else:
            number = name.partition("-")[2]
            said = [each for each in self._run.effects[heard.id] if _is_try(each.name, f"act-{number}")]
            pending = ready.progress.pending if ready.progress and str(ready.progress.rounds) == number else ""
            for text in (pending, *(_text(each.record) for each in said)):
                call = _object(text) or call
        arguments = (str(value) for key, value in call.items() if key not in ("tool", "thought"))
        tool = str(call.get("tool", "")) or name
        return msgspec.structs.replace(row, kind="tool", name=tool[:NAME], title=cut(" ".join(arguments)))

    def _unanswered(self, effect: str, asked: Heard) -> Row:
        """A question to a model of which no answer is recorded."""
        event, _, name = effect.partition("/")
        return Row(
            id=f"effect:{effect}",
            parent=self._handlers.get(event, ""),
            kind="model",
            name=name[:NAME],
            start=self._run.ms(asked.came[0]),
            open=self._run.end is None,
            attempts=asked.attempts,
            model=asked.body.model,
            cause=self._cause(self._run.heard[event]) if event in self._run.heard else Cause(event, ""),
            status="open" if self._run.end is None else "unknown",
        )

    def _undone(self, heard: Heard) -> Row:
        """A work that another agent was to do, and of which nothing is recorded."""
        done = next(self._run.said("delegate", heard.id), None)
        goes_on = done is None and self._run.end is None
        return Row(
            id=f"effect:{heard.id}/{WORK}",
            parent=self._handlers.get(heard.id, ""),
            kind="delegation",
            name=heard.body.step.agent[:NAME],
            start=self._run.ms(heard.came[0]),
            open=goes_on,
            cause=self._cause(heard),
            status="open" if goes_on else "unknown",
        )

    def _question(self, heard: Heard) -> Row:
        """A question to a person, from when the run heard of it."""
        asked: QuestionAsked = heard.body
        first = next(iter(self._run.of_questions[asked.question_id]), None)
        said = f" → {cut(first.body.answer)}" if first and isinstance(first.body, QuestionAnswered) else ""
        start = self._run.ms(heard.came[0])
        end = self._run.ms(first.came[0]) if first else self._run.end
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
        plans = [heard.body.plan for heard in self._run.of(PlanProposed)] + [self._run.state.plan] * bool(
            self._run.state.plan
        )
        steps = {step.id: step for plan in plans if plan for step in plan.steps}
        if self._run.state.plan:  # what was planned anew has other steps, or others' ids
            steps = {step.id: step for step in self._run.state.plan.steps}
        begun = [*self._run.of(StepReady), *self._run.of(DelegationRequested)]
        return list((steps | {heard.body.step.id: heard.body.step for heard in begun}).values())

    def _step(self, step: Step, inside: Sequence[Row]) -> Row:
        """A step of the plan, from when it was first to begin until the run heard of its end."""
        heard = self._run.of_steps[step.id]
        begun = [each for each in heard if isinstance(each.body, StepReady | DelegationRequested)]
        ends = [each for each in heard if isinstance(each.body, RunProgressed) and each.body.kind == "task_end"]
        now, summary = self._run.state.steps.get(step.id), self._run.summaries.get(step.id)
        known = now or summary
        status = known.status if known else ends[-1].body.status if ends else "running" if begun else "pending"
        end = self._run.ms(ends[-1].came[0]) if ends else self._run.end if begun else None
        handled = [row for row in inside if row.kind == "stage" and row.name != STAGE]
        cost = [row for row in inside if row.tokens_in is not None]
        return Row(
            id=f"step:{step.id}",
            kind="step",
            name=step.id[:NAME],
            title=cut(step.title),
            start=self._run.ms(begun[0].came[0]) if begun else None,
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
        if self._run.forked:
            yield "It was forked off another run: what it shares with that is not shown here."
        if self._run.last is None and self._run.now is None:
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
        tokens_in=tokens and counted(tokens.tokens_in),
        tokens_out=tokens and counted(tokens.tokens_out),
        tokens_cached=tokens and counted(tokens.cached),
        model=usage.model,
        node=usage.node,
    )


def _delegated(row: Row, agent: str, record: Record) -> Row:
    row = msgspec.structs.replace(row, kind="delegation", name=agent[:NAME])
    try:
        return _with(row, msgspec.json.decode(record.result, type=Delivery).usage)
    except UNREADABLE:
        return row


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
