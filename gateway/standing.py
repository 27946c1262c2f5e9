"""Where a run stands, and what it waits for."""

from collections.abc import Sequence

import msgspec

from consumers import aggregate, plan, step_execute, understand
from consumers.runs.state import Asking
from consumers.runs.view import RunView
from deploy.wiring import Victoria
from gateway.serve import missing_stages
from schemas.errors import ErrorInfo
from streams.asking import Waiting

QUESTION = 200
"""Characters of a question that are shown."""
SESSION = "session"
"""What waits in a run for its turn."""
FIRST, STEPS = understand.NAME, step_execute.NAME
OF_STEPS = ("answer", "think", "vote", "choose", "act")
"""How steps' questions to models are called."""


class Pending(msgspec.Struct, frozen=True):
    """A question that waits for a person's answer."""

    id: str
    question: str
    choices: tuple[str, ...] = ()


class Waits(msgspec.Struct, frozen=True):
    """What a run waits for, as far as it is known.

    `stage` has to go on with it. `place` is how many come first: of the goals at intake, 1,000 standing for more, or of
    the runs in its session's line. `model` is the one that is not there, "any model" where any would do.
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


async def standing(victoria: Victoria, run_id: str) -> Standing:
    """A run's standing. Raises InvalidInput with code `run.unknown`."""
    view = await victoria.view(run_id)
    if view.finished:
        return Standing(view, error=view.finished.error)
    reasons = list[str]()
    if missing := await missing_stages(victoria):
        reasons.append(f"no worker for {', '.join(missing)}: start them with `victoria up`")
    reasons += [_answer_to(each) for each in view.questions]
    waiting = await victoria.waiting(run_id)
    if waiting:
        reasons.append(f"{waiting.error.message} {waiting.error.hint}")
    error = waiting.error if waiting else None
    return Standing(view, "; ".join(reasons), error, await _waits(victoria, view, waiting, missing))


async def _waits(victoria: Victoria, view: RunView, waiting: Waiting | None, missing: Sequence[str]) -> Waits | None:
    if view.questions:
        asking = view.questions[0]
        return Waits(STEPS, question=Pending(asking.id, asking.question, asking.choices))
    if waiting and waiting.effect == SESSION:
        return Waits(FIRST, place=await victoria.turns_ahead(view.run_id))
    if waiting:
        return Waits(_asking(waiting.effect), model=str(victoria.engines.wish))
    if view.status == "queued":
        ahead = await victoria.goals_ahead(view.run_id)
        if ahead is not None:
            return Waits(FIRST, place=ahead)
    # What is not at intake is anywhere behind it: at the first stage where nobody is.
    behind = [stage for stage in missing if stage != FIRST]
    return Waits(behind[0]) if behind else None


def _asking(effect: str) -> str:
    """The stage that asked a model, by the name of its question."""
    name = effect.rpartition("/")[2]
    if name in (FIRST, "fuse"):
        return FIRST if name == FIRST else aggregate.NAME
    return STEPS if name.partition("-")[0] in OF_STEPS else plan.NAME


def _answer_to(asking: Asking) -> str:
    return f'an answer to {asking.question[:QUESTION]!r}: victoria answer {asking.id} "..."'
