"""A context for tests: a stage is handled without any server, with scripted answers of models and real actions.

ctx = ScriptedContext(answers={"understand": Understanding(...)})
events = await handle(GoalSubmitted(goal="..."), ctx)
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast

from schemas.envelope import derived_id
from schemas.errors import EffectFailed, VictoriaError
from schemas.inference import Question
from schemas.plan import Limits, Trust, Usage, least_trusted
from streams.stage import Action, Effects

S = TypeVar("S")
A = TypeVar("A")
R = TypeVar("R")


class ScriptedContext(Generic[S]):
    """A Context whose models answer from a script; a question without an answer fails as if no model were there.

    `answers` maps names to answers (or to an EffectFailed to raise); `asked`, `called` and `spent` list what the
    handler did. Of `limits` the tokens can be reserved; nothing else keeps to them.
    """

    def __init__(
        self,
        state: S = None,
        answers: Mapping[str, object] | None = None,
        now: datetime = datetime(2026, 1, 1, tzinfo=UTC),
        trust: Trust = "user",
        limits: Limits | None = None,
    ) -> None:
        self.run_id, self.event_id, self.state = "run-1", "event-1", state
        self.trust: Trust = trust
        self.limits = limits
        self.spent: list[tuple[str, int, int]] = []
        self.asked: list[tuple[str, Question[Any]]] = []
        self.called: list[tuple[str, object]] = []
        self._answers, self._now = dict(answers or {}), now

    async def ask(self, name: str, question: Question[R]) -> R:
        """The scripted answer."""
        self.asked.append((name, question))
        self.trust = least_trusted(self.trust, "model")
        answer = self._answers.get(name, EffectFailed("model.none", "No model is scripted for this."))
        if isinstance(answer, Exception):
            raise answer
        return cast("R", answer)

    async def call(self, name: str, action: Action[A, R], request: A, returns: type[R], effects: Effects = "none") -> R:
        """Really do the action; nothing is recorded."""
        self.called.append((name, request))
        self.trust = least_trusted(self.trust, "tool")
        try:
            return await action(request, f"{self.event_id}/{name}")
        except VictoriaError as problem:
            if problem.retryable:
                raise
            raise EffectFailed(problem.code, problem.message, problem.hint) from problem

    def now(self) -> datetime:
        """The time given at the start."""
        return self._now

    def new_id(self, name: str) -> str:
        """An id derived from the event and `name`."""
        return derived_id(self.event_id, name)

    def usage(self) -> Usage:
        """One call for each question that was answered."""
        return Usage(model="scripted", calls=len(self.asked)) if self.asked else Usage()

    async def reserve(self, name: str, tokens: int) -> int:
        """What is left of the limits, at most `tokens`."""
        if not self.limits or not self.limits.tokens:
            return tokens
        return max(0, min(tokens, self.limits.tokens - sum(spent for _, spent, _ in self.spent)))

    async def spend(self, name: str, tokens: int, calls: int) -> None:
        """Noted."""
        self.spent.append((name, tokens, calls))
