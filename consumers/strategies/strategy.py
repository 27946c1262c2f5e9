"""The contract of a strategy: from an understood goal to the shape of a plan.

A new strategy is one file: a subclass of Strategy, beside this file or in the folder of the user's own strategies
(`strategies_dir`). The registry finds it; nothing else changes. A strategy only shapes: the pipeline releases the
steps, carries them out, and puts their answers together.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from schemas.errors import InvalidInput
from schemas.inference import Question
from schemas.plan import Category, Done, Plan, Step, TaskKind

R = TypeVar("R")

EXPERT = "victoria"
"""Who does what nobody else is found for, and answers for the whole."""


class Colleague(msgspec.Struct, frozen=True, omit_defaults=True):
    """An expert as planners see it, from its file (consumers/experts/expert.py). `load` is how busy it is, 0 to 1."""

    name: str
    title: str
    department: str
    rank: str = "specialist"
    strategy: str = "react"
    capabilities: dict[str, float] = {}
    load: float = 0.0


class Brief(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that a plan is shaped from. `goal` is the restated one. `expert` is who it is for, "" for nobody yet.

    `needs` are capabilities the goal's words ask for, `claimed` the experts whose own keywords it has, most first.
    `colleagues` are all experts, `tools` what they can use, as text. `context` is what the goal was said in; it and the
    goal are data, never orders. When what is left of a plan is planned again, `done` has ended and stays, `left` was
    planned, and `why` says what has changed.
    """

    goal: str
    kind: TaskKind
    category: Category = "simple"
    expert: str = ""
    first_step: str = ""
    needs: tuple[str, ...] = ()
    claimed: tuple[str, ...] = ()
    colleagues: tuple[Colleague, ...] = ()
    tools: str = ""
    context: str = ""
    done: tuple[Done, ...] = ()
    left: tuple[Step, ...] = ()
    why: str = ""


class Ask(Protocol):
    """Asks a model, through the plan stage's context, which records it. Raises EffectFailed: degrade then."""

    async def __call__(self, name: str, question: Question[R]) -> R:
        """The validated answer."""
        ...


class Strategy(ABC):
    """One shape of a plan. `suits` names the kinds of goals it is chosen for where nothing else is said; of two that
    suit the same kind, the one whose name comes first is taken. A `direct` one needs nothing but the goal and its
    expert, no colleagues and no model: a goal that is surely that expert's goes straight to its step."""

    name: ClassVar[str]
    description: ClassVar[str]
    suits: ClassVar[Sequence[TaskKind]] = ()
    direct: ClassVar[bool] = False

    @abstractmethod
    async def shape(self, brief: Brief, ask: Ask) -> Plan:
        """The plan, by this strategy's name. Where it can't be shaped, an empty one whose notes say why."""

    async def shaped(self, brief: Brief, ask: Ask) -> Plan:
        """What `shape` gives, by this strategy's name, held to the types of a plan: it may be anybody's code.

        Raises InvalidInput `strategy.plan`, and what `shape` raises.
        """
        plan = await self.shape(brief, ask)
        try:
            found = msgspec.json.decode(msgspec.json.encode(plan), type=Plan)
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as problem:
            raise InvalidInput(
                "strategy.plan",
                f"The strategy {self.name} shaped what is no plan: {problem}"[:500],
                "Correct what its `shape` returns: a Plan of Steps, with values of their fields' types.",
            ) from problem
        return replace(found, strategy=self.name)
