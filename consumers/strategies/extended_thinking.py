"""`extended_thinking`: think at length, then answer."""

from collections.abc import Sequence
from typing import ClassVar

from consumers.strategies.strategy import EXPERT, Ask, Brief, Strategy
from schemas.plan import Plan, Step, TaskKind


class ExtendedThinking(Strategy):
    """Thoughts that feed an answer."""

    name: ClassVar[str] = "extended_thinking"
    description: ClassVar[str] = "think at length, then answer"
    suits: ClassVar[Sequence[TaskKind]] = ("reasoning",)
    direct: ClassVar[bool] = True

    async def shape(self, brief: Brief, ask: Ask) -> Plan:
        """Two steps."""
        expert = brief.expert or EXPERT
        think = Step("1", "think", brief.goal, how="think", expert=expert, inner=True)
        answer = Step("2", "answer", brief.goal, how="answer", expert=expert, depends_on=("1",), any_input=True)
        return Plan(self.name, (think, answer))
