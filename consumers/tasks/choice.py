"""Who a task is given to: who is best at what its words need, and has least in hand."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from consumers.experts.staff import Staff
from consumers.strategies.fitting import fitting
from consumers.strategies.strategy import EXPERT, Brief, Colleague
from consumers.words.routing import needs

HALF = 8
"""Tasks in hand with which an expert counts as half busy."""


def best(goal: str, capability: str, staff: Staff) -> str:
    """The expert whose words the goal has, or who can best what it needs, less its load; where a `capability` is
    wanted, by that alone. Where nothing speaks for anybody, the one who answers for the whole."""
    brief = Brief(
        goal,
        "general",
        needs=(capability,) if capability else needs(goal),
        claimed=() if capability else staff.claimed,
        colleagues=staff.colleagues,
    )
    return next((each.name for each in fitting(brief)), EXPERT)


def burdened(colleagues: Sequence[Colleague], in_hand: Mapping[str, int]) -> tuple[Colleague, ...]:
    """Colleagues with the tasks they have in hand on top of their loads: never quite full, so that who has least is
    still found among many."""
    return tuple(replace(each, load=_load(each.load, in_hand.get(each.name, 0))) for each in colleagues)


def _load(load: float, tasks: int) -> float:
    return 1 - (1 - load) * HALF / (HALF + tasks)
