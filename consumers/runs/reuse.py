"""Which runs' answers may be given again: a pure function over their state."""

import msgspec

from consumers.runs.state import RunState, answered_by
from consumers.tools.seen import MOST
from schemas.plan import Seen

BYTES = 32 * 1024
"""Of an answer that is kept."""


class Reusable(msgspec.Struct, frozen=True):
    """An answer that may be given again in its project, to who asks for what `key` is the hash of, while its `sources`
    say the same. `method`, `model` and `expert` are how it came about."""

    key: str
    output: str
    method: str
    model: str
    expert: str = ""
    project: str = ""
    sources: tuple[Seen, ...] = ()


def reusable(state: RunState) -> Reusable | None:
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
    return Reusable(
        key=state.answer_key,
        output=end.output,
        method=end.method,
        model=end.metadata.model,
        expert=answered_by(state),
        project=state.project,
        sources=tuple(sources),
    )
