"""`react`: think, act with a tool, observe, until it is found out or done."""

from collections.abc import Sequence
from typing import ClassVar

from consumers.strategies.strategy import EXPERT, Ask, Brief, Strategy
from schemas.plan import Plan, Step, TaskKind


class React(Strategy):
    """One step that uses tools."""

    name: ClassVar[str] = "react"
    description: ClassVar[str] = "one expert with tools, one action at a time"
    suits: ClassVar[Sequence[TaskKind]] = ("coding", "execution")
    direct: ClassVar[bool] = True

    async def shape(self, brief: Brief, ask: Ask) -> Plan:
        """One step, with the goal's first step as its hint."""
        step = Step("1", "find out", brief.goal, expert=brief.expert or EXPERT, expected=brief.first_step)
        return Plan(self.name, (step,))
