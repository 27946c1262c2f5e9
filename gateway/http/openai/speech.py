"""Which of a run's text is its answer, as it comes: pure, from a run's plan, the pieces on its feed, and its end.

What was sent can't be taken back. So only the text of that one step is said whose answer the run's will be, or of the
fusion of several; what begins anew is said from where it differs from nothing that was said, and else at the end.
"""

from schemas.events import AnswerProgressed
from schemas.plan import Plan

ANEW = "*The answer above was cut short and began anew. This is the whole one:*"
EARLY = 1_000
"""Pieces that are kept until the plan is known."""


class Speech:
    """An answer on its way to one listener. Its methods return what is to be said now."""

    def __init__(self) -> None:
        self.said = ""
        self._final: tuple[str, str] | None = None
        self._planned = False
        self._early: list[AnswerProgressed] = []
        self._effect, self._heard = "", ""

    def plan(self, plan: Plan) -> str:
        """The run's plan is known. Once it is made anew, nothing is sure."""
        self._final = None if self._planned else _final(plan)
        self._planned = True
        early, self._early = self._early, []
        return "".join(map(self.piece, early))

    def piece(self, piece: AnswerProgressed) -> str:
        """A piece of a step's text has come."""
        if not self._planned:
            self._early = [*self._early[1 - EARLY :], piece]
            return ""
        name = piece.effect.rpartition("/")[2].partition(".")[0]
        if (piece.step, name) != self._final:
            return ""
        if piece.offset == 0:
            self._effect, self._heard = piece.effect, ""
        if (piece.effect, piece.offset) != (self._effect, len(self._heard)):
            self._effect = ""  # some is missing: what follows tells nothing before it begins anew, or has ended
            return ""
        self._heard += piece.text
        return self._on(self._heard.strip())

    def end(self, output: str) -> str:
        """The run's answer is there: what of it has not been said. If something else has been, it is said so."""
        output = output.strip()
        if output.startswith(self.said):
            return self._on(output)
        return f"\n\n{ANEW}\n\n{output}"

    def _on(self, text: str) -> str:
        """What a text has beyond what was said."""
        if not text.startswith(self.said):
            return ""
        more, self.said = text[len(self.said) :], text
        return more


def _final(plan: Plan) -> tuple[str, str] | None:
    """The step and the name of the question whose answer is the run's, as far as that is sure."""
    steps = [step for step in plan.steps if not step.inner]
    if plan.quorum or not steps:
        return None
    if len(steps) == 1:
        return (steps[0].id, steps[0].how) if steps[0].how in ("answer", "think") else None
    return ("", "fuse") if plan.aggregate else None
