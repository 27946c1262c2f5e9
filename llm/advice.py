"""What a failure of a model means for whoever chooses where to ask next."""

from typing import Literal

Advice = Literal["next node", "back off", "larger model", "rescan", "no retry"]
"""`next node`: the same question may do well elsewhere. `back off`: here too, a little later. `larger model`: only one
with more room. `rescan`: what was known of this node's models is out of date. `no retry`: the same again anywhere."""

_ADVICE: dict[str, Advice] = {
    "model.unreachable": "next node",
    "model.engine": "next node",
    "model.timeout": "next node",
    "model.busy": "back off",
    "model.overflow": "larger model",
    "model.missing": "rescan",
    "model.cut": "no retry",
    "model.refused": "no retry",
}


def advice(code: str) -> Advice:
    """What to do after a ModelFailed with this code; with one nobody knows, nothing.

    `model.timeout` can also mean that the request's own time is over: whoever set it knows, and need not ask.
    """
    return _ADVICE.get(code, "no retry")
