"""The one seam through which others hear what goes on here: metrics and traces, of which this room knows nothing.

An Observer hears nothing, and what nobody hears costs nothing; whoever wants to hear overrides what it wants to. What
it does must be quick and must not raise: it runs between entries.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Literal

from schemas.events import Event, InferenceRequested
from schemas.plan import Usage
from streams.entry import Entry
from streams.settlement import Handled
from streams.stage import AnyStage

Handle = Callable[[Entry], Awaitable[Handled]]

TRACEPARENT: ContextVar[str] = ContextVar("TRACEPARENT", default="")
"""The W3C trace context of what is done now, for requests to others; "" where nothing is traced."""


class Asked:
    """One question at an engine."""

    def first(self) -> None:
        """A piece of its answer has come."""

    def ended(self, usage: Usage, error: str = "", text: str = "") -> None:
        """It is over: with the answer's text, or with an error's code."""


class Used:
    """One call of a tool."""

    def ended(self, text: str, error: str = "") -> None:
        """It is over: with what the tool said, or with an error's code."""


class Observer:
    """Who hears of all that is done in a process; by itself, nothing."""

    def publishing(self, _stream: str, events: Sequence[tuple[str, Event]]) -> AbstractContextManager[Sequence[str]]:
        """Inside, (run id, event) pairs from outside are put on a stream; gives the trace context of each."""
        return nullcontext([""] * len(events))

    def handling(self, _stage: AnyStage, handle: Handle, entry: Entry) -> Awaitable[Handled]:
        """An entry is to be handled: by `handle`, and around it whatever else. This is asked only of the first entry of
        a read and of those with a trace context: what is around each would cost every hop."""
        return handle(entry)

    def taken(self, stage: str, ids: Sequence[bytes]) -> None:
        """Entries were delivered to a stage of this worker, for the first time to anybody."""

    def settled(self, stage: AnyStage, batch: Sequence[Handled], results: Sequence[int], seconds: float) -> None:
        """A batch was settled: for each entry 1, 0 where somebody else had settled it, less where it is in hand again.
        `seconds` are those of the script call, with all its tries."""

    def trouble(self, stage: str) -> None:
        """The server could not be asked, or refused."""

    def effect(self, kind: Literal["ask", "call"], *, ran: bool) -> None:
        """A handler has an effect's result: it was asked or done now, or is taken from the journal."""

    def asking(self, _engine: str, _event: InferenceRequested, _run_id: str) -> AbstractContextManager[Asked]:
        """Inside, an engine is asked."""
        return nullcontext(Asked())

    def using(self, _tool: str, _call_id: str, _arguments: Callable[[], str]) -> AbstractContextManager[Used]:
        """Inside, a tool is used; `arguments` says with what, as JSON."""
        return nullcontext(Used())


SILENT = Observer()
