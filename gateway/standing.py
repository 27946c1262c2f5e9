"""Where a run stands, and what it waits for."""

from collections.abc import Sequence
from functools import cache, partial

import msgspec

from consumers import aggregate, delegate, plan, step_execute, understand
from consumers.offers import backend_of
from consumers.runs.state import Asking
from consumers.runs.view import RunView, Stored
from deploy.victoria import Victoria
from gateway.serve import missing_stages
from schemas.errors import ErrorInfo
from schemas.plan import RunStatus
from streams.asking import Waiting
from streams.connection import TROUBLE
from streams.gathered import Gathered
from streams.keys import INFERENCE
from streams.lag import InLine
from streams.recent import Recent

FRESH = 0.5
"""Seconds for which it is known who is at work and who stands in which line."""
AT_ONCE = 100
"""Runs that are looked at in one call."""
QUESTION = 200
"""Characters of a question that are shown."""
SESSION = "session"
"""What waits in a run for its turn."""
FIRST, STEPS = understand.NAME, step_execute.NAME
RUNS = (FIRST, plan.NAME, aggregate.NAME, STEPS, delegate.NAME)
"""The stages in whose lines a run may stand."""
OF_STEPS = ("answer", "think", "vote", "choose", "act")
"""How steps' questions to models are called."""


class Pending(msgspec.Struct, frozen=True):
    """A question that waits for a person's answer."""

    id: str
    question: str
    choices: tuple[str, ...] = ()


class Waits(msgspec.Struct, frozen=True):
    """What a run waits for, as far as it is known.

    `stage` has to go on with it. `place` is how many come first, 1,000 of a longer line: in the stage's, in its
    session's, or of the questions to `model`, which is at its own where there is none. `model` may also be one that is
    not there, "any model" where any would do.
    """

    stage: str
    place: int | None = None
    question: Pending | None = None
    model: str | None = None


class Standing(msgspec.Struct, omit_defaults=True):
    """A run's view, and what keeps it from going on, if anything is known to. `error` is what it ended with, or what
    keeps models from answering it. `waiting` says the same for programs."""

    run: RunView
    waits_for: str = ""
    error: ErrorInfo | None = None
    waiting: Waits | None = None

    @property
    def status(self) -> RunStatus:
        """The run's: it is waiting while no model can take its question."""
        return "waiting" if self.error and not self.run.finished else self.run.status


class Standings:
    """Where runs stand. However many ask, the server is asked once for what they have in common; so what a run waits
    for may be half a second old."""

    def __init__(self, victoria: Victoria) -> None:
        self._victoria = victoria
        self._stored = cache(self._new_calls)
        self._missing = Recent(self._missing_now)
        self._lines = cache(self._new_lines)

    def _new_calls(self, _partition: str) -> Gathered[str, Stored]:
        """Of a partition, so that a server that is away keeps nobody from the others' runs."""
        return Gathered(self._victoria.stored, AT_ONCE)

    def _new_lines(self, stages: Sequence[str], partition: str) -> Recent[dict[str, InLine]]:
        return Recent(partial(self._victoria.lines, stages, partition))

    async def of(self, run_id: str) -> Standing:
        """A run's standing: it runs once a stage was given it. Raises InvalidInput with code `run.unknown`, redis
        errors."""
        stored = await self._stored(self._victoria.keys.of_run(run_id)).ask(run_id)
        view, waiting = stored.view, stored.waiting
        if view.finished:
            return Standing(view, error=view.finished.error)
        recent = self._lines(RUNS, self._victoria.keys.of_run(run_id))
        given = stored.given
        if given is None and view.status == "queued":
            given = (await recent.within(FRESH))[FIRST].place(run_id) is None
        if view.status == "queued" and given:
            view = msgspec.structs.replace(view, status="running")
        missing = await self._missing.within(FRESH)
        waits = await self._waits(view, waiting, missing, recent)
        reasons = list[str]()
        if waits and view.status != "queued":  # then all are needed that are not there
            missing = [stage for stage in missing if stage == waits.stage or (waiting and backend_of(stage))]
        if waits and missing:
            reasons.append(f"no worker for {', '.join(missing)}: start them with `victoria up`")
        reasons += [_answer_to(each) for each in view.questions]
        error = waiting.error if waiting else None
        if error:
            reasons.append(f"{error.message} {error.hint}")
        if waiting and waiting.model and waits and waits.place is not None:
            reasons.append(f"{waiting.model}, which {_busy(waits.place)}")
        return Standing(view, "; ".join(reasons), error, waits)

    async def _missing_now(self) -> list[str]:
        try:
            return await missing_stages(self._victoria)
        except TROUBLE:  # a part of a cluster is away, and not the run's
            return []

    async def _waits(
        self, view: RunView, waiting: Waiting | None, missing: Sequence[str], recent: Recent[dict[str, InLine]]
    ) -> Waits | None:
        if view.questions:
            asking = view.questions[0]
            return Waits(STEPS, question=Pending(asking.id, asking.question, asking.choices))
        if waiting and waiting.effect == SESSION:
            return Waits(FIRST, place=await self._victoria.turns_ahead(view.run_id))
        if waiting and waiting.error:
            return Waits(_asking(waiting.effect), model=str(self._victoria.engines.wish))
        if waiting:
            line = (await self._lines((waiting.stream,), INFERENCE).within(FRESH))[waiting.stream]
            return Waits(_asking(waiting.effect), place=line.place(view.run_id), model=waiting.model)
        lines = await recent.within(FRESH)
        if view.status == "queued":
            if lines[FIRST].all and lines[FIRST].place(view.run_id) is None:  # it has come since
                lines = await recent.within(0.0)
            place = lines[FIRST].place(view.run_id)
            return Waits(FIRST, place=place if lines[FIRST].all or place is not None else lines[FIRST].entries)
        for stage in RUNS:  # in that of the first too: what is tried again, or put off, comes there once more
            if (place := lines[stage].place(view.run_id)) is not None:
                return Waits(stage, place=place)
        # In no line, it is in some stage's hands: perhaps in those of one where nobody is any more.
        return next((Waits(stage) for stage in _in_hand(view) if stage in missing), None)


def _in_hand(view: RunView) -> Sequence[str]:
    """The stages that may have a run in hand."""
    if not view.steps:
        return FIRST, plan.NAME, aggregate.NAME
    return (STEPS,) if any(step.status == "running" for step in view.steps) else (aggregate.NAME,)


def _busy(before: int) -> str:
    return f"has {before} other question{'s' * (before > 1)} first" if before else "is busy"


def _asking(effect: str) -> str:
    """The stage that asked a model, by the name of its question."""
    name = effect.rpartition("/")[2].partition(".")[0]  # further tries of a question are name.2, name.3
    if name in (FIRST, "fuse"):
        return FIRST if name == FIRST else aggregate.NAME
    return STEPS if name.partition("-")[0] in OF_STEPS else plan.NAME


def _answer_to(asking: Asking) -> str:
    return f'an answer to {asking.question[:QUESTION]!r}: victoria answer {asking.id} "..."'
