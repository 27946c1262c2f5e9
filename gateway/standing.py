"""Where a run stands, and what it waits for."""

import msgspec

from consumers.runs.state import Asking
from consumers.runs.view import RunView
from deploy.wiring import Victoria
from gateway.serve import missing_stages
from schemas.errors import ErrorInfo

QUESTION = 200
"""Characters of a question that are shown."""


class Standing(msgspec.Struct, omit_defaults=True):
    """A run's view, and what keeps it from going on, if anything is known to. `error` is what it ended with, or what
    keeps models from answering it."""

    run: RunView
    waits_for: str = ""
    error: ErrorInfo | None = None


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
    return Standing(view, "; ".join(reasons), waiting.error if waiting else None)


def _answer_to(asking: Asking) -> str:
    return f'an answer to {asking.question[:QUESTION]!r}: victoria answer {asking.id} "..."'
