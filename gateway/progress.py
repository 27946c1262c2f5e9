"""A run's way through its stages: a line for each thing done, and on a terminal a spinner while one is awaited."""

from datetime import datetime
from types import TracebackType
from typing import Self

from anyio import from_thread
from rich.status import Status
from rich.text import Text

from gateway.screen import ERR, ending, line, note
from schemas.events import AnswerProgressed, RunProgressed

MARKS = {"ok": "✓", "partial": "◐", "failed": "✗", "blocked": "✗", "skipped": "·"}
STEP = 20_000_000
"""Bytes of a download between two lines, where there is no spinner."""


class Progress:
    """Shows a run's progress on standard error, until the context ends."""

    def __init__(self) -> None:
        self._spinner: Status | None = None
        self._started = datetime.now().astimezone()
        self._next = 0
        self._said = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rest()

    def rest(self) -> None:
        """Show no spinner, until something is awaited again."""
        if self._spinner:
            self._spinner.stop()
            self._spinner = None

    def waiting(self, text: str) -> None:
        """Show what is awaited; on a terminal only."""
        if not ERR.is_terminal:
            return
        if self._spinner is None:
            self._spinner = ERR.status("")
            self._spinner.start()
        self._spinner.update(Text(line(f"{text} …", less=2)))

    def done(self, mark: str, stage: str, text: str, at: datetime | None = None) -> None:
        """Print one thing done, with the seconds since the start."""
        seconds = ((at or datetime.now().astimezone()) - self._started).total_seconds()
        head = f"{mark} {stage:<13} {max(seconds, 0):6.2f} s  "
        ERR.print(head + line(text, less=len(head)), soft_wrap=True)

    def of(self, event: RunProgressed, at: datetime) -> None:
        """Print one event of a run's life cycle."""
        match event.kind:
            case "understood":
                self.done("✓", "understand", event.text, at)
                self.waiting("plan")
            case "plan":
                self.done("✓", "plan", event.text, at)
                self.waiting("step-execute")
            case "task_start":
                self.done("→", "step-execute", f"step {event.step_id}: {event.text}", at)
                self.waiting(f"step {event.step_id}")
            case "task_end":
                text = f"step {event.step_id} {event.status}" + (f": {event.text}" if event.text else "")
                self.done(MARKS.get(event.status or "", "✓"), "step-execute", text, at)
                self.waiting("aggregate")
            case "question":
                choices = f" ({' / '.join(event.choices)})" if event.choices else ""
                self.done("?", "step-execute", f"step {event.step_id} asks: {event.text}{choices}", at)
                note(f'  answer it: victoria answer {event.question_id} "..."', "dim")
                self.waiting(f"step {event.step_id}: an answer")
            case "handoff" | "delegated":
                self.done("→", "delegate", f"step {event.step_id}: {event.text}", at)

    def download(self, done: int, total: int) -> None:
        """Show a model's download. Called in its thread, which this ends when nobody waits for the model any more."""
        from_thread.check_cancelled()
        self.fetched("the model, once", done, total)

    def fetched(self, what: str, done: int, total: int) -> None:
        """Show how far a download is."""
        text = f"fetching {what}: {done / 1e6:.0f} of {total / 1e6:.0f} MB"
        if ERR.is_terminal:
            self.waiting(text)
        elif done >= self._next or done == total:
            step = max(STEP, total // 20)
            self._next = done - done % step + step
            self.done("·", "model", text)

    def heard(self, piece: AnswerProgressed) -> None:
        """Show the last words of an answer as it comes; on a terminal only."""
        if piece.offset == 0:
            self._said = ""
        self._said += piece.text
        head = f"step {piece.step} … " if piece.step else ""
        self.waiting(head + ending(self._said, less=len(head) + 4))
