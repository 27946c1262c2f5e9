"""`parallel`: a complex goal is taken apart into steps for different experts, side by side where they can be."""

from collections.abc import Sequence
from typing import ClassVar

from consumers.strategies.decomposer import decomposed
from consumers.strategies.fitting import NOBODY, one_step, ranked
from consumers.strategies.strategy import Ask, Brief, Strategy
from schemas.errors import EffectFailed
from schemas.plan import Plan, TaskKind


class Parallel(Strategy):
    """A model takes the goal apart."""

    name: ClassVar[str] = "parallel"
    description: ClassVar[str] = "a model splits it into steps for experts, side by side where they can be"
    suits: ClassVar[Sequence[TaskKind]] = ("complex", "general")

    async def shape(self, brief: Brief, ask: Ask) -> Plan:
        """A step for each part. Where a goal can't be taken apart, one step does the whole."""
        staff = ranked(brief)
        if not staff:
            return one_step(self.name, brief, NOBODY)
        try:
            return await decomposed(self.name, brief, ask, staff)
        except EffectFailed as problem:
            if brief.why:
                raise
            return one_step(self.name, brief, f"One step for the whole: {problem}")
