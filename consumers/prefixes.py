"""What the stages' questions begin with, for engines to read before anybody asks."""

from typing import Any

from consumers import aggregate, step_execute, understand
from consumers.decomposer import question
from consumers.roster import Folders, Roster
from consumers.staff import colleagues
from consumers.strategies.strategy import Brief
from consumers.tools.registry import BUILT_IN, Registry
from schemas.inference import Question


def prefixes(tools: Registry = BUILT_IN, roster: Roster | None = None) -> tuple[Question[Any], ...]:
    """A question of each kind, without what changes from one to the next."""
    staff = colleagues(roster or Folders().roster())
    return (
        understand.PROMPT.question(understand.Understanding, goal="", history=""),
        question(Brief("", "complex", tools=tools.described), staff),
        step_execute.ACT.question(tools.action, goal="", hint="", tools=tools.described, observations=""),
        step_execute.ANSWER.question(str, goal="", inputs=""),
        aggregate.FUSE.question(str, goal="", answers=""),
    )
