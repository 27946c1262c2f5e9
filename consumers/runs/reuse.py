"""Which runs' answers may be given again: a pure function over their state."""

from consumers.runs.state import RunState, answered_by
from consumers.tools.seen import MOST
from schemas.events import AnswerKept
from schemas.plan import Seen

BYTES = 32 * 1024
"""Of an answer that is kept."""


def reusable(state: RunState) -> AnswerKept | None:
    """The answer of a run that has ended, if it may be given again: it is whole, a model of ours made it, nobody was
    asked, nothing went wrong or otherwise than planned, and all that it rests on can be looked at again."""
    end, plan = state.finished, state.plan
    if not (state.answer_key and end and plan):
        return None
    if end.status != "completed" or end.error or not end.metadata.calls or end.metadata.source != "model":
        return None
    if state.asked or state.notes or plan.notes or state.revision or len(end.output.encode()) > BYTES:
        return None
    sources: list[Seen] = []
    for step in state.steps.values():
        if step.status == "skipped":
            continue  # it was needless
        if step.status != "ok" or step.sources is None or step.experts:
            return None
        sources += [seen for seen in step.sources if seen not in sources]
    if len(sources) > MOST:
        return None
    return AnswerKept(
        key=state.answer_key,
        output=end.output,
        method=end.method,
        model=end.metadata.model,
        expert=answered_by(state),
        project=state.project,
        sources=tuple(sources),
    )
