"""Colleagues for plans in tests, and answers of a model that is asked for one."""

from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from consumers.experts.roster import Folders
from consumers.experts.staff import colleagues
from consumers.strategies.strategy import Brief
from consumers.words.routing import needs, router
from schemas.errors import EffectFailed
from schemas.inference import Question

R = TypeVar("R")
ROSTER = Folders().roster()
STAFF = colleagues(ROSTER)
"""The experts that come with Victoria."""


def brief(goal: str = "Fix the login endpoint of the api.", **fields: Any) -> Brief:
    """What a strategy is told of this goal."""
    told = Brief(goal, "general", "multi_step", colleagues=STAFF)
    return replace(replace(told, needs=needs(goal), claimed=router(ROSTER).claimed(goal)), **fields)


class Asked:
    """Answers a strategy's questions in turn, as types demand; without an answer as if there were no model."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.questions: list[tuple[str, Question[Any]]] = []

    async def __call__(self, name: str, question: Question[R]) -> R:
        self.questions.append((name, question))
        if not self.answers:
            raise EffectFailed("model.none", "There is no model.")
        return msgspec.convert(msgspec.to_builtins(self.answers.pop(0)), question.answer)
