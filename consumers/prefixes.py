"""What the stages' questions begin with, for engines to read before anybody asks."""

from typing import Any

from consumers import aggregate, answering, plan, react, understand
from consumers.persona import NOBODY, tools_of
from consumers.tools.registry import BUILT_IN, Registry
from schemas.inference import Question


def prefixes(tools: Registry = BUILT_IN) -> tuple[Question[Any], ...]:
    """A question of each kind, without what changes from one to the next."""
    general = tools_of(NOBODY, tools)
    return (
        understand.PROMPT.question(understand.Understanding, goal="", history=""),
        plan.PROMPT.question(plan.Decomposition, goal="", tools=tools.described),
        react.ACT.question(general.action, context="", goal="", hint="", tools=general.described, observations=""),
        answering.ANSWER.question(str, context="", goal="", inputs=""),
        aggregate.FUSE.question(str, goal="", answers=""),
    )
