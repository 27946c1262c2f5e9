"""One model at one source, with its engine and its breaker."""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import anyio
import structlog

from llm.breaker import Breaker
from llm.engine import Engine
from llm.models import Model, Offer
from schemas.errors import ErrorInfo, ModelFailed, VictoriaError

_log: Any = structlog.get_logger()


class Source(Protocol):
    """Where models run. `node` is `host:port`, empty for this process; `slots` how many questions it takes at once."""

    node: str
    slots: int

    async def models(self) -> Sequence[Model]:
        """What it can run now. Raises ModelFailed, CouldNotStart."""
        ...

    async def open(self, model: str) -> Engine:
        """An engine for one of its models. Raises ModelFailed, CouldNotStart."""
        ...

    async def close(self) -> None:
        """Close what is its own; its engines are closed before."""
        ...


class Site:
    """A source at work: what it was last seen to have, and how much it has in hand."""

    def __init__(self, source: Source) -> None:
        self.source, self.in_flight, self.kept_until = source, 0, 0.0
        self.places: dict[str, Place] = {}
        self.fault: ErrorInfo | None = None
        self.rescan, self.scanned = asyncio.Event(), asyncio.Event()
        self.scanning = anyio.Lock()


class Place:
    """One model at one source."""

    def __init__(self, site: Site, model: Model) -> None:
        self.site, self.model, self.breaker = site, model, Breaker()
        self.engine: Engine | None = None
        self.name = (site.source.node, model.name)
        self._opening: asyncio.Task[Engine] | None = None
        self._closing, self._gone = anyio.Lock(), False

    @property
    def offer(self) -> Offer:
        """What it offers now."""
        breaker, site = self.breaker, self.site
        return Offer(self.model, site.source.slots, site.in_flight, breaker.state, breaker.error)

    async def opened(self) -> Engine:
        """Its engine, loaded if it was not. Who stops waiting does not stop the loading: the next one needs it too."""
        if self.engine:
            return self.engine
        if self._gone:
            raise self._missing()
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_heard)
        return await asyncio.shield(self._opening)

    async def discard(self, engine: Engine | None) -> None:
        """Give up an engine that broke; the next question, or trial, gets a new one."""
        if engine and self.engine is engine:
            self.engine = None
            with anyio.CancelScope(shield=True):
                async with self._closing:
                    await engine.close()

    async def drop(self) -> None:
        """Its model has gone."""
        self._gone = True
        await self.discard(self.engine)

    async def close(self) -> None:
        """Free it, or stop loading it."""
        if self._opening:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        await self.discard(self.engine)

    async def _open(self) -> Engine:
        try:
            async with self._closing:  # what the last one held is free before
                engine = await self.site.source.open(self.model.name)
            if self._gone:
                await engine.close()
                raise self._missing()
            self.engine = engine
            self.site.rescan.set()  # it is loaded now
            return engine
        finally:
            self._opening = None

    def _missing(self) -> ModelFailed:
        return ModelFailed("model.missing", f"{self.model.name} has gone.", "`victoria models` shows what there is.")


def _heard(opening: "asyncio.Task[Engine]") -> None:
    if not opening.cancelled():
        opening.exception()  # those who wait have it, if there are any left


@contextmanager
def typed(what: str) -> Generator[None]:
    """Inside runs a back end's code. It fails in ways that nobody foresaw: they become ModelFailed."""
    try:
        yield
    except VictoriaError:
        raise
    except Exception as problem:
        _log.warning("engine.broke", what=what, exc_info=problem)
        said = f"{what} broke: {type(problem).__name__}: {problem}"[:500]
        raise ModelFailed("model.engine", said, "Trying again may help.") from problem
