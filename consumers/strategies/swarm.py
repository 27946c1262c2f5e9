"""`swarm`: several experts answer side by side, and one answer is made of theirs."""

from typing import ClassVar

from consumers.strategies.fitting import NOBODY, advisers, fitting, one_answer
from consumers.strategies.strategy import Ask, Brief, Strategy
from schemas.plan import Plan, Step

FEWEST, MOST = 3, 4


class Swarm(Strategy):
    """Experts side by side: those who fit, and who reasons best where these are too few."""

    name: ClassVar[str] = "swarm"
    description: ClassVar[str] = "three or four experts answer side by side, their answers become one"

    async def shape(self, brief: Brief, ask: Ask) -> Plan:
        """A step for each expert."""
        asked = advisers(brief)
        count = min(MOST, max(FEWEST, sum(each in asked for each in fitting(brief))))
        steps = tuple(
            Step(str(number), each.title, brief.goal, how="answer", expert=each.name)
            for number, each in enumerate(asked[:count], 1)
        )
        return Plan(self.name, steps, aggregate=len(steps) > 1) if steps else one_answer(self.name, brief, NOBODY)
