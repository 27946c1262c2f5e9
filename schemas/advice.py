"""What a failed try at asking a model means for the next one."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

Advice = Literal["next node", "back off", "larger model", "rescan", "other model", "no retry"]
"""`next node`: the same question may do well elsewhere. `back off`: here too, a little later. `larger model`: only with
more room. `rescan`: what was known of this node's models is out of date. `other model`: this one won't do better.
`no retry`: the same again anywhere."""

INVALID = "model.invalid"
"""An answer came, but none of the question's type."""
CUT = "model.cut"
"""The answer was not whole when its tokens were used up."""
NO_OTHER = "model.no_other"
"""There is no model beside those that were tried."""

_ADVICE: dict[str, Advice] = {
    "model.unreachable": "next node",
    "model.engine": "next node",
    "model.timeout": "next node",
    "model.resting": "next node",
    "model.absent": "next node",
    "model.busy": "back off",
    "model.overflow": "larger model",
    "model.missing": "rescan",
    CUT: "other model",
    "model.broken": "other model",
    "model.library": "other model",
    "model.fetch": "other model",
    "model.refused": "no retry",
}


def advice(code: str) -> Advice:
    """What to do after a failure with this code; with one nobody knows, nothing.

    `model.timeout` can also mean that the request's own time is over: whoever set it knows, and need not ask.
    """
    return _ADVICE.get(code, "no retry")


TRIES = 5
"""How often a question is asked at most, of whatever models."""

Next = Literal["repair", "elsewhere", "larger model", "other model"]
"""How to ask once more: `repair`, the same model, told what was wrong; `elsewhere`, wherever it may do well now."""


class Tried(NamedTuple):
    """One try: the model that was asked, "" if there was none to be asked, and the code of what went wrong."""

    model: str
    code: str


_AFTER_INVALID: dict[int, Next] = {1: "repair", 2: "other model", 3: "repair"}


def next_try(tried: Sequence[Tried]) -> Next | None:
    """How to ask again after these tries, None to give up. Each model may repair an invalid answer once, two models may
    try to answer validly. Where there was none to be asked, nobody is asked again."""
    if len(tried) >= TRIES or not tried[-1].model:
        return None
    if tried[-1].code == INVALID:
        return _AFTER_INVALID.get([each.code for each in tried].count(INVALID))
    match advice(tried[-1].code):
        case "next node" | "back off" | "rescan":
            return "elsewhere"
        case "larger model":
            return "larger model"
        case "other model":
            return "other model"
        case "no retry":
            return None
