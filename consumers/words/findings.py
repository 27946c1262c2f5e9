"""What rules and router find in a goal: only data, so that who carries it need not load them."""

import msgspec

from schemas.plan import Category, TaskKind, ToolCall


class Recognised(msgspec.Struct, frozen=True):
    """What rules make of a goal.

    `calls` are sure, in order; `rest` is the part of the goal they don't cover, "" if none; `rest_alone` says that it
    needs nothing of what they give. `restated` is the goal in one sentence of its language. `confidence`, 0 to 1: 0.9
    and more, the calls are all of it; 0.8, with a rest; below, no calls. `first_step` is the first call as text
    ("list_directory schemas"), "" if none.
    """

    restated: str
    category: Category
    kind: TaskKind
    confidence: float
    calls: tuple[ToolCall, ...] = ()
    rest: str = ""
    rest_alone: bool = False
    first_step: str = ""


class Routed(msgspec.Struct, frozen=True):
    """Where a goal goes. `confidence`, from 0 to 1, is that of category and expert both, `who` that of the expert;
    `why` is for people."""

    category: TaskKind
    expert: str
    confidence: float
    who: float
    why: str
