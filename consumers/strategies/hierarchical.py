"""`hierarchical`: a root briefs heads of departments, these their specialists, and results come back the same way."""

from itertools import chain
from typing import ClassVar

from msgspec.structs import replace

from consumers.strategies.fitting import NOBODY, Department, departments, manner_for, one_answer
from consumers.strategies.strategy import EXPERT, Ask, Brief, Colleague, Strategy
from schemas.plan import Plan, Step

HEADS = 2
SPECIALISTS = 2
"""Of each head, at most."""


class Hierarchical(Strategy):
    """A tree of experts, down and up."""

    name: ClassVar[str] = "hierarchical"
    description: ClassVar[str] = "Victoria briefs heads of departments, they their specialists; results come back up"

    async def shape(self, brief: Brief, ask: Ask) -> Plan:
        """Briefs down, work, sums up, one answer."""
        rooms = departments(brief)[:HEADS]
        if not rooms:
            return one_answer(self.name, brief, NOBODY)
        told = _told(brief, [room.head for room in rooms])
        root = Step("the brief", "brief", told, how="think", expert=EXPERT, inner=True)
        below = [_room(room, root, brief) for room in rooms]
        sums = tuple(steps[-1].id for steps in below)
        answer = Step("the answer", "answer", brief.goal, how="answer", expert=EXPERT, depends_on=sums, any_input=True)
        return Plan(self.name, (root, *chain.from_iterable(below), answer))


def _room(room: Department, root: Step, brief: Brief) -> list[Step]:
    """A department's part, its sum at the end. A head without specialists does the work itself."""
    head, staff = room.head, room.specialists[:SPECIALISTS]
    if not staff:
        return [replace(_part(head, brief, root), how="answer")]
    told = Step(
        head.name, head.title, _told(brief, staff), how="think", expert=head.name, depends_on=(root.id,), inner=True
    )
    parts = [_part(each, brief, told) for each in staff]
    total = Step(
        f"{head.name} sums up",
        f"{head.title}: sum",
        brief.goal,
        how="answer",
        expert=head.name,
        depends_on=tuple(part.id for part in parts),
        any_input=True,
        inner=True,
    )
    return [told, *parts, total]


def _part(by: Colleague, brief: Brief, told: Step) -> Step:
    text = f"{brief.goal}\n\nDo your part of it."
    return Step(
        by.name,
        by.title,
        text,
        how=manner_for(by, brief),
        expert=by.name,
        depends_on=(told.id,),
        expected=brief.first_step,
        inner=True,
    )


def _told(brief: Brief, below: list[Colleague]) -> str:
    return f"{brief.goal}\n\nSay in a few sentences what each of these has to do: {', '.join(b.title for b in below)}."
