"""What the stages' questions begin with, for engines to read before anybody asks."""

from typing import Any

from consumers import aggregate, understand
from consumers.experts.persona import NOBODY, tools_of
from consumers.experts.roster import Folders, Roster
from consumers.experts.staff import colleagues
from consumers.steps import answering, react
from consumers.strategies.decomposer import question
from consumers.strategies.strategy import Brief
from consumers.tools.registry import BUILT_IN, Registry
from schemas.inference import Question


def prefixes(tools: Registry = BUILT_IN, roster: Roster | None = None) -> tuple[Question[Any], ...]:
    """A question of each kind, without what changes from one to the next."""
    staff = colleagues(roster or Folders().roster())
    general = tools_of(NOBODY, tools)
    return (
        understand.PROMPT.question(understand.Understanding, goal="", history=""),
        question(Brief("", "complex", tools=tools.described), staff),
        react.ACT.question(general.action, context="", goal="", hint="", tools=general.described, observations=""),
        answering.ANSWER.question(str, context="", goal="", inputs=""),
        aggregate.FUSE.question(str, goal="", answers=""),
    )
