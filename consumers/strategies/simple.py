"""`simple`: one answer of a model."""

from collections.abc import Sequence
from typing import ClassVar

from consumers.strategies.strategy import EXPERT, Ask, Brief, Strategy
from schemas.plan import Plan, Step, TaskKind


class Simple(Strategy):
    """One step that answers."""

    name: ClassVar[str] = "simple"
    description: ClassVar[str] = "one answer"
    suits: ClassVar[Sequence[TaskKind]] = ("fast",)
    direct: ClassVar[bool] = True

    async def shape(self, brief: Brief, ask: Ask) -> Plan:
        """One step."""
        return Plan(self.name, (Step("1", "answer", brief.goal, how="answer", expert=brief.expert or EXPERT),))
