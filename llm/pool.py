"""The engines of one inference consumer: which of them takes a question, and what happens when one fails.

A source is where models run: a server, or a file in this process. Each source takes as many questions at once as it has
slots, whatever its models, interactive ones before background ones. Each model at each source has a breaker; what it
shuts out is tried by the pool itself, so that no question is ever the one to find out whether a node is back.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from itertools import count
from time import monotonic
from typing import Any

import anyio
import structlog
from anyio.abc import TaskStatus
from msgspec.structs import replace

from llm.engine import Generation, OnText
from llm.models import Fault, Offer
from llm.place import Place, Site, Source, typed
from llm.router import Needs, ranked
from schemas.advice import advice
from schemas.errors import CouldNotStart, ErrorInfo, ModelFailed, NoModelNow, VictoriaError
from schemas.inference import Answer, ChatMessage, Priority

SCAN_EVERY, SCAN_AGAIN = 120.0, 10.0
"""Seconds for which the list of a source's models is good, and after which a scan that failed is repeated."""
FIRST_SCAN = 2.0
"""Seconds that slow sources keep the others waiting at the start."""
TRY_EVERY = 0.1
"""Seconds between looks for breakers that have rested."""
TRIAL_TIMEOUT = 60.0
"""Seconds in which a source that failed must say one token, before it gets questions again."""
TRIAL = Generation((ChatMessage("user", "Hi"),), max_tokens=1, timeout=TRIAL_TIMEOUT)
OWN_FAULT = ("model.engine",)
"""Failures that may be the question's: only several in a row shut a model out."""
YIELD = 0.02
"""Seconds for which a slot is kept for the next interactive question, which may be on its way from the stream."""
PREFIXES = 256
"""For how many prefixes of prompts the pool remembers which source read them."""

Hear = Callable[[], OnText]
"""Called at the beginning of each answer; what it gives is told the answer's text as it comes."""

_log: Any = structlog.get_logger()


class _Waiter:
    """A question that waits for a slot at one of some sites."""

    def __init__(self, priority: Priority, number: int) -> None:
        self.in_background = priority == "background"
        self.rank, self.wake = (self.in_background, number), asyncio.Event()
        self.sites: set[Site] = set()

    def kept_from(self, now: float) -> dict[Site, float]:
        """Where slots are kept free for others, and for how many seconds."""
        waits = {site: site.kept_until - now for site in self.sites} if self.in_background else {}
        return {site: seconds for site, seconds in waits.items() if seconds > 0}


class Pool:
    """`changed` is set whenever its offers may have."""

    def __init__(self, sources: Iterable[Source], *, priority: Sequence[str] = ()) -> None:
        self._sites = [Site(source) for source in sources]
        self._priority = tuple(priority)
        self._waiters: list[_Waiter] = []
        self._numbers = count()
        self._prefixes: dict[str, str] = {}
        self._warming: anyio.CancelScope | None = None
        self._attended = False
        self.changed = asyncio.Event()

    def faults(self) -> tuple[Fault, ...]:
        """The sources that can't say what they have."""
        return tuple(Fault(site.source.node, site.fault) for site in self._sites if site.fault)

    def offers(self) -> tuple[Offer, ...]:
        """All it has, also what is shut out at the moment."""
        return tuple(place.offer for place in self._places())

    async def answer(
        self, request: Generation, needs: Needs, priority: Priority = "interactive", hear: Hear | None = None
    ) -> Answer:
        """An answer from the best model that will do, or from the next ones if it fails.

        Raises what the last one failed with: ModelFailed, CouldNotStart; NoModelNow if none could be asked.
        """
        tried: set[tuple[str, str]] = set()
        problem: VictoriaError | None = None
        give_up = monotonic() + request.timeout
        if self._warming:
            self._warming.cancel()
        await self._look_around()
        while True:
            try:
                with anyio.fail_after(give_up - monotonic()):
                    place = await self._taken(needs, priority, tried)
            except TimeoutError:
                raise problem or ModelFailed("model.timeout", "No slot became free in time.", _MORE) from None
            except VictoriaError as nothing:
                raise problem or nothing from problem
            try:
                left = replace(request, timeout=max(0.01, give_up - monotonic()))
                answer = await self._asked(place, left, hear)
            except (ModelFailed, CouldNotStart) as failure:
                problem = failure
                tried.add(place.name)
                if not await self._goes_on(place, failure, in_time=monotonic() < give_up):
                    raise
            else:
                place.breaker.succeeded()
                self._remember(needs.prefix, place)
                return answer
            finally:
                self._release(place.site, priority)

    async def scan(self) -> None:
        """Look once at what all sources have; `faults` has those that can't say."""
        async with anyio.create_task_group() as tasks:
            for site in self._sites:
                tasks.start_soon(self._seen, site)

    async def load(self) -> None:
        """Scan all sources, and load what runs in this process. Raises CouldNotStart, ModelFailed."""
        for site in self._sites:
            await self._scan(site)
            for place in list(site.places.values()):
                if not place.model.node:
                    await place.opened()

    async def attend(
        self, warm: Sequence[Generation] = (), *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep the offers up to date, until cancelled: scan the sources, try what was shut out.

        `warm` are prompts that are read while nobody asks, so that what they begin with is in the engines' caches.
        """
        self._attended = True
        try:
            async with anyio.create_task_group() as tasks:
                for site in self._sites:
                    tasks.start_soon(self._scan_often, site)
                with anyio.move_on_after(FIRST_SCAN):
                    for site in self._sites:
                        await site.scanned.wait()
                task_status.started()
                tasks.start_soon(self._warm_up, warm)
                while True:
                    for place in self._places():
                        if place.breaker.may_try(monotonic()):
                            tasks.start_soon(self._try, place)
                    await anyio.sleep(TRY_EVERY)
        finally:
            self._attended = False

    async def close(self) -> None:
        """Break off what runs and free the engines."""
        for place in self._places():
            await place.close()
        for site in self._sites:
            await site.source.close()

    def _places(self) -> list[Place]:
        return [place for site in self._sites for place in site.places.values()]

    async def _asked(self, place: Place, request: Generation, hear: Hear | None) -> Answer:
        give_up = monotonic() + request.timeout
        with anyio.move_on_after(request.timeout) as opening, typed(place.model.name):
            engine = await place.opened()
            opening.deadline = float("inf")  # from here on the engine keeps to the time itself, and says more
            left = replace(request, timeout=max(0.01, give_up - monotonic()))
            try:
                return await engine.generate(left, hear() if hear else None)
            except ModelFailed as failure:
                if failure.retryable:  # its engine is down, which need not be this question's fault
                    await place.discard(engine)
                raise
        raise ModelFailed("model.timeout", f"{place.model.name} was not loaded in time.", _MORE)

    async def _goes_on(self, place: Place, failure: VictoriaError, *, in_time: bool) -> bool:
        """Learn from a failure; whether another place may do better."""
        match "next node" if isinstance(failure, CouldNotStart) else advice(failure.code):
            case "next node":
                certain = isinstance(failure, CouldNotStart) or failure.retryable or failure.code not in OWN_FAULT
                place.breaker.failed(failure.info, monotonic(), at_once=certain and in_time)
            case "rescan":
                places = place.site.places
                if places.get(place.model.name) is place:
                    del places[place.model.name]
                place.site.rescan.set()
                await place.drop()
            case "back off":
                pass
            case _:
                return False
        log = _log.warning if in_time else _log.info  # nobody waits any more for what comes too late
        # Its message may quote what was asked; `victoria models` shows it.
        log("pool.failed", model=place.model.name, node=place.model.node, code=failure.code)
        self.changed.set()
        return in_time

    def _remember(self, prefix: str, place: Place) -> None:
        if prefix:
            self._prefixes.pop(prefix, None)
            self._prefixes[prefix] = place.model.node
            while len(self._prefixes) > PREFIXES:
                del self._prefixes[next(iter(self._prefixes))]

    async def _taken(self, needs: Needs, priority: Priority, tried: set[tuple[str, str]]) -> Place:
        """Wait for a slot at the best place that has one; give it back with `_release`."""
        waiter = _Waiter(priority, next(self._numbers))
        self._waiters.append(waiter)
        try:
            while True:
                best = self._best(needs, tried)
                before, waiter.sites = waiter.sites, {place.site for place in best}
                if before - waiter.sites:
                    self._wake()  # who came behind at those may go on
                kept = waiter.kept_from(monotonic())
                for place in best:
                    if place.site not in kept and self._is_free(place.site, waiter):
                        place.site.in_flight += 1
                        self.changed.set()
                        return place
                waiter.wake.clear()
                with anyio.move_on_after(min(kept.values(), default=None)):
                    await waiter.wake.wait()
        finally:
            self._waiters.remove(waiter)
            self._wake()

    def _best(self, needs: Needs, tried: Collection[tuple[str, str]]) -> list[Place]:
        """The places that will do, the best first. Raises what `ranked` does."""
        places = {id(place.model): place for place in self._places() if place.name not in tried}
        offers = [place.offer for place in places.values()]
        best = ranked(offers, needs, priority=self._priority, warm=self._prefixes)
        return [places[id(offer.model)] for offer in best]

    def _is_free(self, site: Site, waiter: _Waiter) -> bool:
        """Whether it has a slot for this question, after those that come first."""
        ahead = any(site in other.sites for other in self._waiters if other.rank < waiter.rank)
        return site.in_flight < site.source.slots and not ahead

    def _release(self, site: Site, priority: Priority) -> None:
        site.in_flight -= 1
        if priority == "interactive":
            site.kept_until = monotonic() + YIELD
        self.changed.set()
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            waiter.wake.set()

    async def _scan_often(self, site: Site) -> None:
        while True:
            site.rescan.clear()
            await self._seen(site)
            site.scanned.set()
            self.changed.set()
            self._wake()
            with anyio.move_on_after(SCAN_AGAIN if site.fault else SCAN_EVERY):
                await site.rescan.wait()

    async def _seen(self, site: Site) -> None:
        """Scan a source; what keeps it from saying what it has is remembered."""
        try:
            await self._scan(site)
            for place in site.places.values() if site.fault else ():
                place.breaker.wake()
            site.fault = None
        except VictoriaError as problem:
            site.fault = problem.info
            _log.info("pool.scan_failed", node=site.source.node, error=str(problem))
            for place in site.places.values():  # what it had is still known, but not asked now
                place.breaker.failed(problem.info, monotonic(), at_once=True)

    async def _look_around(self) -> None:
        """Scan what was never scanned, where nobody attends to the pool."""
        for site in self._sites:
            if not self._attended and not site.scanned.is_set():
                with suppress(VictoriaError):
                    await self._scan(site)

    async def _scan(self, site: Site) -> None:
        async with site.scanning:
            await self._scan_alone(site)

    async def _scan_alone(self, site: Site) -> None:
        with typed(site.source.node or "a model's source"):
            found = {model.name: model for model in await site.source.models()}
        gone = [site.places.pop(name) for name in site.places.keys() - found.keys()]
        for name, model in found.items():
            if place := site.places.get(name):
                place.model = model
            else:
                site.places[name] = Place(site, model)
        site.scanned.set()
        for place in gone:
            await place.drop()

    async def _try(self, place: Place) -> None:
        """See whether a place that was shut out works again."""
        self.changed.set()
        error: ErrorInfo | None = ErrorInfo("model.timeout", "It did not say a word.", "See what else it does.")
        broken = False
        try:
            with typed(place.model.name):
                engine = await place.opened()
                with anyio.move_on_after(TRIAL_TIMEOUT):
                    await engine.generate(TRIAL)
                    error = None
        except VictoriaError as problem:
            error = None if problem.code == "model.cut" else problem.info  # all it had to say was that it is there
            broken = problem.retryable
        except BaseException:
            place.breaker.trial_ended()
            raise
        if error:
            place.breaker.trial_failed(error, monotonic())
            if broken or not place.site.in_flight:  # other questions may do well in it
                await place.discard(place.engine)
        else:
            place.breaker.succeeded()
            place.site.rescan.set()
            _log.info("pool.recovered", model=place.model.name, node=place.model.node)
        self.changed.set()
        self._wake()

    async def _warm_up(self, prompts: Sequence[Generation]) -> None:
        """Read prompts while nobody asks. A question ends it, and it goes on when that is answered."""
        for prompt in prompts:
            done = False
            while not done:
                await anyio.sleep(TRY_EVERY)
                done = await self._read_ahead(prompt)

    async def _read_ahead(self, prompt: Generation) -> bool:
        """Whether nothing is left to do for this prompt."""
        if any(site.in_flight for site in self._sites):
            return False
        needs = Needs.of(prompt.messages, prompt.schema)
        try:
            place = self._best(needs, ())[0]
            with anyio.CancelScope() as self._warming:
                await self._asked(place, prompt, None)
                self._remember(needs.prefix, place)
                return True
        except NoModelNow:
            return False
        except VictoriaError as problem:
            _log.info("pool.not_warmed", error=str(problem))
            return True
        finally:
            self._warming = None
        return False


_MORE = "Give it more time, ask for less, or start more consumers."
