"""`tree_of_thoughts`: propose, judge, go on from the best, judge again, answer."""

from typing import ClassVar

from consumers.strategies.strategy import EXPERT, Ask, Brief, Strategy
from schemas.plan import Plan, Step

PROPOSALS = (
    "Propose the simplest way that could work.",
    "Propose the most thorough way.",
    "Propose a way that most people would not think of.",
)
EXPANSIONS = (
    "Take the chosen proposal further: fill in every detail that is still missing.",
    "Find the weakest point of the chosen proposal, and mend it.",
    "Make the chosen proposal shorter and clearer without losing anything.",
)


class TreeOfThoughts(Strategy):
    """Two levels of three thoughts, of each of which the best goes on."""

    name: ClassVar[str] = "tree_of_thoughts"
    description: ClassVar[str] = "three proposals, the best of them in three versions, the best of these answers"
    direct: ClassVar[bool] = True

    async def shape(self, brief: Brief, ask: Ask) -> Plan:
        """Nine steps, of which only the last is the answer."""
        expert = brief.expert or EXPERT

        def think(id_: str, title: str, angle: str, *needs: str) -> Step:
            text = f"{brief.goal}\n\n{angle}"
            return Step(id_, title, text, how="think", expert=expert, depends_on=needs, inner=True)

        def choose(id_: str, inputs: tuple[Step, ...]) -> Step:
            needs = tuple(step.id for step in inputs)
            return Step(
                id_, "choose", brief.goal, how="choose", expert=expert, depends_on=needs, any_input=True, inner=True
            )

        first = tuple(think(str(n), f"proposal {n}", angle) for n, angle in enumerate(PROPOSALS, 1))
        best = choose("4", first)
        second = tuple(think(str(n), f"version {n - 4}", angle, best.id) for n, angle in enumerate(EXPANSIONS, 5))
        last = choose("8", second)
        answer = Step("9", "answer", brief.goal, how="answer", expert=expert, depends_on=(last.id,))
        return Plan(self.name, (*first, best, *second, last, answer))
