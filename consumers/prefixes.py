"""What the stages' questions begin with, for engines to read before anybody asks."""

from typing import Any

from consumers import aggregate, plan, step_execute, understand
from consumers.tools.registry import Action, describe_tools
from schemas.inference import Question


def prefixes() -> tuple[Question[Any], ...]:
    """A question of each kind, without what changes from one to the next."""
    tools = describe_tools()
    return (
        understand.PROMPT.question(understand.Understanding, goal="", history=""),
        plan.PROMPT.question(plan.Decomposition, goal="", tools=tools),
        step_execute.ACT.question(Action, goal="", hint="", tools=tools, observations=""),
        step_execute.ANSWER.question(str, goal="", inputs=""),
        aggregate.FUSE.question(str, goal="", answers=""),
    )
