"""`consensus`: independent answers, of which the one that most agree on counts."""

from itertools import cycle
from typing import ClassVar

from consumers.strategies.fitting import NOBODY, advisers, fitting, one_answer
from consumers.strategies.strategy import Ask, Brief, Strategy
from schemas.plan import Plan, Step

ANGLES = (
    "Answer as directly as you can.",
    "Work it out step by step.",
    "First say what usually goes wrong here, and avoid it.",
    "Think of an answer, look for what speaks against it, then decide.",
    "Begin with what has to be true of any right answer.",
)
"""One for each voter, so that two who think alike still look at it differently."""
QUORUM = 3


class Consensus(Strategy):
    """Voters side by side; once enough of them agree, the others are not asked any more."""

    name: ClassVar[str] = "consensus"
    description: ClassVar[str] = "five answers from different angles; what three agree on counts"

    async def shape(self, brief: Brief, ask: Ask) -> Plan:
        """A step for each angle, its experts those who fit, in turns."""
        asked, fit = advisers(brief), fitting(brief)
        voters = [each for each in asked if each in fit][: len(ANGLES)] or asked[:1]
        if not voters:
            return one_answer(self.name, brief, NOBODY)
        steps = tuple(
            Step(str(number), f"vote {number}", f"{brief.goal}\n\n{angle}", how="vote", expert=voter.name)
            for number, (angle, voter) in enumerate(zip(ANGLES, cycle(voters)), 1)
        )
        return Plan(self.name, steps, quorum=QUORUM)
