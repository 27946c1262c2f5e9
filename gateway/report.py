"""A finished run, for people and as data."""

import msgspec

from gateway.screen import answer, note
from schemas.errors import ErrorInfo
from schemas.events import Metadata, RunFinished, StageTime
from schemas.plan import Known, RunStatus


class RunReport(msgspec.Struct, omit_defaults=False):
    """A finished run as `--json` prints it."""

    run_id: str
    status: RunStatus
    output: str
    method: str
    model: str
    tokens: int
    stages: tuple[StageTime, ...]
    metadata: Metadata
    error: ErrorInfo | None = None
    known: Known | msgspec.UnsetType = msgspec.UNSET
    """The earlier run whose answer it is, if it is one's."""

    @classmethod
    def of(cls, run_id: str, end: RunFinished) -> "RunReport":
        """The report of a run's end."""
        meta = end.metadata
        tokens = meta.tokens_in + meta.tokens_out
        known = end.known or msgspec.UNSET
        return cls(run_id, end.status, end.output, end.method, meta.model, tokens, end.stages, meta, end.error, known)

    def print(self) -> None:
        """The answer on standard output, and how it came about below it on standard error."""
        answer(self.output)
        note("")
        if self.error and self.error.message not in self.output:
            note(f"{self.error.message} [{self.error.code}] {self.error.hint}".rstrip(), "red")
        meta = self.metadata
        model = self.model + (f" at {meta.node}" if ":" in meta.node else "")
        tokens = f"{self.tokens} tokens" + (f" ({meta.tokens_cached} cached)" if meta.tokens_cached else "")
        for text in meta.notes:
            note(text, "yellow")
        facts = [self.status, f"method {self.method}", f"model {model}", tokens]
        facts += [f"by {meta.delegated_to}"] if meta.delegated_to else []
        note(" · ".join([*facts, f"{meta.seconds:.2f} s"]), "dim")
        note(" · ".join(f"{part.stage} {part.seconds:.2f} s" for part in self.stages), "dim")
        note(f"run {self.run_id}", "dim")
