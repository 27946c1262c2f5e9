"""Several observers as one."""

from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Literal

from schemas.events import Event, InferenceRequested
from schemas.plan import Usage
from streams.entry import Entry
from streams.observer import SILENT, Asked, Handle, Observer, Used
from streams.settlement import Handled
from streams.stage import AnyStage


class _Asked(Asked):
    def __init__(self, each: Sequence[Asked]) -> None:
        self._each = each

    def first(self) -> None:
        for one in self._each:
            one.first()

    def ended(self, usage: Usage, error: str = "", text: str = "") -> None:
        for one in self._each:
            one.ended(usage, error, text)


class _Used(Used):
    def __init__(self, each: Sequence[Used]) -> None:
        self._each = each

    def ended(self, text: str, error: str = "") -> None:
        for one in self._each:
            one.ended(text, error)


class Many(Observer):
    """Tells each of them all it hears. The first one is the outermost."""

    def __init__(self, each: Sequence[Observer]) -> None:
        self._each = each

    @contextmanager
    def publishing(self, stream: str, events: Sequence[tuple[str, Event]]) -> Generator[Sequence[str]]:
        """The first context that one of them gives to each event."""
        with ExitStack() as inside:
            given: list[Sequence[str]] = [inside.enter_context(one.publishing(stream, events)) for one in self._each]
            yield [next((each for each in contexts if each), "") for contexts in zip(*given, strict=True)]

    def handling(self, stage: AnyStage, handle: Handle, entry: Entry) -> Awaitable[Handled]:
        """One around the other."""
        for one in reversed(self._each):
            handle = partial(one.handling, stage, handle)
        return handle(entry)

    def taken(self, stage: str, ids: Sequence[bytes]) -> None:
        """See Observer."""
        for one in self._each:
            one.taken(stage, ids)

    def settled(self, stage: AnyStage, batch: Sequence[Handled], results: Sequence[int], seconds: float) -> None:
        """See Observer."""
        for one in self._each:
            one.settled(stage, batch, results, seconds)

    def trouble(self, stage: str) -> None:
        """See Observer."""
        for one in self._each:
            one.trouble(stage)

    def effect(self, kind: Literal["ask", "call"], *, ran: bool) -> None:
        """See Observer."""
        for one in self._each:
            one.effect(kind, ran=ran)

    @contextmanager
    def asking(self, engine: str, event: InferenceRequested, run_id: str) -> Generator[Asked]:
        """See Observer."""
        with ExitStack() as inside:
            yield _Asked([inside.enter_context(one.asking(engine, event, run_id)) for one in self._each])

    @contextmanager
    def using(self, tool: str, call_id: str, arguments: Callable[[], str]) -> Generator[Used]:
        """See Observer."""
        with ExitStack() as inside:
            yield _Used([inside.enter_context(one.using(tool, call_id, arguments)) for one in self._each])


def together(*each: Observer | None) -> Observer:
    """All that there are, as one."""
    found = [one for one in each if one]
    return Many(found) if len(found) > 1 else next(iter(found), SILENT)
