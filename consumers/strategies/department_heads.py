"""`department_heads`: the department a goal belongs to takes it on."""

from collections.abc import Sequence
from typing import ClassVar

from msgspec.structs import replace

from consumers.strategies.decomposer import decomposed
from consumers.strategies.fitting import NOBODY, Department, departments, manner_for, one_answer
from consumers.strategies.strategy import Ask, Brief, Colleague, Strategy
from schemas.errors import EffectFailed
from schemas.plan import Plan, Step, TaskKind

TOGETHER = 2
"""Specialists who work side by side where no model could split the goal."""


class DepartmentHeads(Strategy):
    """Something simple goes to one specialist; the rest the head splits among all of them."""

    name: ClassVar[str] = "department_heads"
    description: ClassVar[str] = "the head of the department it belongs to splits it among the specialists"
    suits: ClassVar[Sequence[TaskKind]] = ("planning",)

    async def shape(self, brief: Brief, ask: Ask) -> Plan:
        """One step for something simple, else a step for each part. Without a model the best specialists each do the
        whole, and the head sums up."""
        room = next(iter(departments(brief)), None)
        if room is None:
            return one_answer(self.name, brief, NOBODY)
        staff = room.specialists or [room.head]
        if brief.category == "simple" or not room.specialists:
            return Plan(self.name, (_work("1", staff[0], brief),))
        try:
            plan = await decomposed(self.name, brief, ask, staff)
        except EffectFailed as problem:
            if brief.why:
                raise
            return _side_by_side(self.name, room, brief, f"Nobody could split it: {problem}")
        return replace(plan, aggregate=len(plan.steps) > 1)


def _side_by_side(name: str, room: Department, brief: Brief, note: str) -> Plan:
    works = [
        replace(_work(str(number), each, brief), inner=True)
        for number, each in enumerate(room.specialists[:TOGETHER], 1)
    ]
    answer = Step(
        str(len(works) + 1),
        "answer",
        brief.goal,
        how="answer",
        expert=room.head.name,
        depends_on=tuple(work.id for work in works),
        any_input=True,
    )
    return Plan(name, (*works, answer), notes=(note,))


def _work(id_: str, by: Colleague, brief: Brief) -> Step:
    return Step(id_, by.title, brief.goal, how=manner_for(by, brief), expert=by.name, expected=brief.first_step)
