"""One turn of a chat: a run's events become lines that stay, and a few that are shown while it goes on."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from gateway.chat.line import Away, Ended, Heard
from gateway.progress import MARKS
from gateway.screen import fit, fit_end, harmless
from schemas.events import AnswerProgressed, RunProgressed
from schemas.plan import Step

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SHOWN_STEPS = 6
"""Steps under way that are shown at once."""
HEARD = 8_192
"""Characters kept of an answer as it comes; the whole one is in the run's end."""
_NARROW = Console(width=80, color_system=None, markup=False, emoji=False, highlight=False)


class Styled(NamedTuple):
    """A line of text, harmless to terminals, and how it looks: "", dim, bold, good, bad, warn."""

    text: str
    style: str = ""


class Question(NamedTuple):
    """What a step asks."""

    id: str
    step: str
    text: str
    choices: tuple[str, ...]

    def meant(self, reply: str) -> str:
        """The answer that a reply stands for: a choice may be named by its number."""
        reply = reply.strip()
        if reply.isascii() and reply.isdecimal() and reply not in self.choices and 0 < int(reply) <= len(self.choices):
            return self.choices[int(reply) - 1]
        return reply


@dataclass
class _Part:
    """A step under way, and what is heard of it."""

    title: str
    since: datetime
    expert: str = ""
    words: str = ""


@dataclass
class Turn:
    """A run as far as it is known here; `since` is when it was sent."""

    run_id: str
    since: datetime
    questions: list[Question] = field(default_factory=list[Question])
    cancelled: bool = False
    trouble: str = ""
    """What keeps it from going on, as far as that is known."""
    _awaited: str = "understand"
    _steps: dict[str, Step] = field(default_factory=dict[str, Step])
    _parts: dict[str, _Part] = field(default_factory=dict[str, _Part])
    _effects: dict[str, str] = field(default_factory=dict[str, str])
    _over: set[str] = field(default_factory=set[str])

    def see(self, heard: Heard) -> list[Styled]:
        """Take in what happened; what of it stays on the screen."""
        self.trouble = ""
        match heard.body:
            case RunProgressed() as event:
                return list(self._progressed(event, heard.at))
            case AnswerProgressed() as piece:
                self._said(piece, heard.at)
            case Away(why):
                self.trouble = f"{why} It is tried again."
            case Ended() as ended:
                words = [part.words.strip() for part in self._parts.values()]
                self.questions.clear()
                self._parts.clear()
                if ended.status != "completed":  # what was read already does not vanish
                    return [line for said in words if said for line in (Styled(""), Styled(said.expandtabs(4), "dim"))]
        return []

    def close(self, question: Question) -> None:
        """A question needs no answer any more."""
        if question in self.questions:
            self.questions.remove(question)
            self._awaited = f"step {question.step} goes on"

    def region(self, width: int, height: int, now: datetime) -> list[Styled]:
        """What is shown of it now, on at most half the height, no line wider than the width."""
        room, sign = max(height // 2, 4), SPINNER[int(now.timestamp() * 10) % len(SPINNER)]
        steps = {step: part for step, part in self._parts.items() if step}
        lines = [Styled(fit(f"{sign} {self._what(now)}", width), "dim")] if self.questions or not steps else []
        for step, part in list(steps.items())[:SHOWN_STEPS]:
            took = f"  {_seconds(part.since, now)}"
            lines.append(Styled(fit(f"{sign} {self._named(step, part)}", width - len(took)) + took))
            if part.words and len(steps) > 1:
                lines.append(Styled("    " + fit_end(part.words, width - 6), "dim"))
        if len(steps) > SHOWN_STEPS:
            lines.append(Styled(f"  and {len(steps) - SHOWN_STEPS} more", "dim"))
        if self.trouble:
            lines += [Styled(each, "warn") for each in wrapped(self.trouble, width - 2, "  ")[:3]]
        if speaking := [part for step, part in self._parts.items() if part.words and (not step or len(steps) == 1)]:
            words = wrapped(speaking[-1].words, width - 2, "  ")
            lines += [Styled(each) for each in words[-max(room - len(lines), 2) :]]
        return lines[: room + 2]

    def _what(self, now: datetime) -> str:
        if self.cancelled:
            return "cancelling"
        if self.questions:
            return f"step {self.questions[0].step} waits for your answer"
        return f"{self._awaited}  {_seconds(self.since, now)}"

    def _named(self, step: str, part: _Part) -> str:
        by = f" · {part.expert}" if part.expert else ""
        return f"{step} {part.title}{by}" if len(self._steps) != 1 else f"{part.title}{by}"

    def _progressed(self, event: RunProgressed, at: datetime) -> Iterator[Styled]:
        match event.kind:
            case "understood":
                self._awaited = "plan"
                self._parts.pop("", None)
            case "plan":
                self._awaited = "waiting for a worker"
                if event.plan:
                    self._steps |= {step.id: step for step in event.plan.steps}
                    strategy, count = event.plan.strategy, len(event.plan.steps)
                    yield from (Styled(f"  {note}", "warn") for note in event.plan.notes)
                    if count > 1:
                        yield Styled(f"plan  {strategy}, {count} steps", "dim")
            case "task_start":
                planned = self._steps.get(event.step_id)
                self._parts[event.step_id] = _Part(event.text, at, planned.expert if planned else "")
            case "task_end":
                yield self._ended(event, at)
            case "question":
                question = Question(event.question_id, event.step_id, event.text, event.choices)
                self.questions.append(question)
                self._parts.pop(event.step_id, None)
                yield Styled(f"? {event.text}", "bold")
                yield from (Styled(f"  {number}  {choice}") for number, choice in enumerate(event.choices, 1))
            case "handoff":
                if part := self._parts.get(event.step_id):
                    part.words, part.expert = "", event.text.partition("→ ")[2].partition(":")[0]
                yield Styled(f"→ {event.step_id} {event.text}", "dim")
            case "delegated":
                yield Styled(f"→ {event.step_id} {event.text}", "dim")

    def _ended(self, event: RunProgressed, at: datetime) -> Styled:
        self._close_of(event.step_id)
        self._over.add(event.step_id)
        self._awaited = "putting the answer together"
        planned = self._steps.get(event.step_id)
        title = planned.title if planned else ""
        part = self._parts.pop(event.step_id, None) or _Part(title, at, planned.expert if planned else "")
        status = event.status or "ok"
        mark, style = MARKS.get(status, "✓"), "bad" if status in ("failed", "blocked") else "dim"
        more = "" if status == "ok" else f" · {status}" + (f": {event.text}" if event.text else "")
        took = f" · {_seconds(part.since, at)}" if part.since != at else ""
        return Styled(f"{mark} {self._named(event.step_id, part)}{took}{more}", style)

    def _said(self, piece: AnswerProgressed, at: datetime) -> None:
        if piece.step in self._over:
            return
        self._close_of(piece.step)
        part = self._parts.get(piece.step)
        if part is None:
            planned = self._steps.get(piece.step)
            part = self._parts[piece.step] = _Part(planned.title if planned else "", at)
        if piece.offset == 0 or self._effects.get(piece.step) != piece.effect:
            part.words = ""  # it begins anew
        self._effects[piece.step] = piece.effect
        part.words += piece.text
        if len(part.words) > 2 * HEARD:
            part.words = part.words[-HEARD:]

    def _close_of(self, step: str) -> None:
        """A step that goes on has its answer, whoever gave it."""
        self.questions[:] = [question for question in self.questions if question.step != step]


def who(ended: Ended) -> str:
    """Who did it: experts, at which agent, or whoever else made the answer."""
    known = ended.knowledge
    names = dict.fromkeys(
        f"{step.expert} at {step.agent}" if step.agent else step.expert
        for step in known.steps
        if (step.expert or step.agent) and step.status in ("ok", "partial")
    )
    return ", ".join(names) or known.delegated_to or known.agent


def facts(ended: Ended) -> Styled:
    """How an answer came about, in one line."""
    known = ended.knowledge
    mark, style = {"completed": ("✓", "dim"), "cancelled": ("·", "warn")}.get(ended.status, ("✗", "bad"))
    said = [f"{mark} {ended.status}", known.method, f"by {who(ended)}"]
    said += [known.model] if known.model != "none" else []
    said += [f"{known.seconds:.1f} s"]
    tokens = known.tokens_in + known.tokens_out
    said += [f"{tokens} tokens"] if tokens else []
    return Styled(" · ".join(said), style)


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """A text's lines, broken between words to fit the width in cells, however wide its characters are."""
    shown = Text(harmless(text).expandtabs(4).strip("\n"))
    return [indent + each.plain.rstrip() for each in shown.wrap(_NARROW, max(width, 10))]


def _seconds(since: datetime, now: datetime) -> str:
    return f"{max((now - since).total_seconds(), 0):.1f} s"
