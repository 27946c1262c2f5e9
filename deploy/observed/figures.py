"""What Prometheus is told of work: entries, effects, models, tools. Labels have few values: stages, outcomes, models,
tools; never a run, a goal, or what somebody wrote.

Counting is a matter of the hop's speed: what comes by the entry is added up in plain lists, a batch at a time, and put
into Prometheus' form only when somebody asks.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from time import perf_counter, time
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from llm.models import Offer
from schemas.events import InferenceRequested
from schemas.plan import Usage
from streams.entry import Entry
from streams.observer import Asked, Handle, Observer, Used
from streams.outcome import EMITTED, Again
from streams.settlement import Handled
from streams.stage import AnyStage

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Bounds for what may take as long as it likes."""
ENTRIES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SPEEDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Tokens per second."""
MOST_LABELS = 500
"""Combinations of labels of one family, of those that come from outside; what comes then is `other`."""
OTHER = "other"
Labels = tuple[str, ...]


class Tally:
    """A histogram's counts: of values up to each bound, and of those above all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus takes them: up to each bound, and +Inf."""
        bounds = [*(str(float(bound)) for bound in self.bounds), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.counts)), strict=True))


class _Stage:
    """What is counted of one stage."""

    def __init__(self) -> None:
        self.outcomes = Counter[str]()
        self.troubles = 0
        self.handling, self.waits = Tally(SECONDS), Tally(SECONDS)
        self.settling, self.batches = Tally(SECONDS), Tally(ENTRIES)


class _Asked(Asked):
    def __init__(self) -> None:
        self.began = perf_counter()
        self.first_after: float | None = None
        self.usage, self.outcome = Usage(), "cancelled"

    def first(self) -> None:
        if self.first_after is None:
            self.first_after = perf_counter() - self.began

    def ended(self, usage: Usage, error: str = "", text: str = "") -> None:
        self.usage, self.outcome = usage, error or "ok"


class _Used(Used):
    outcome = "failed"

    def ended(self, text: str, error: str = "") -> None:
        self.outcome = error or "ok"


class Figures(Observer, Collector):
    """Hears of work and adds it up. `offers` are those of this process's engines, `written` how many entries of all
    streams this process has written to the database, None where it is not at that."""

    def __init__(self) -> None:
        self.offers: Callable[[], Iterable[Offer]] = tuple
        self.written: Callable[[], int | None] = lambda: None
        self._stages: dict[str, _Stage] = {}
        self._effects = Counter[Labels]()
        self._asked = Counter[Labels]()
        self._tokens = Counter[Labels]()
        self._answers: dict[Labels, Tally] = {}
        self._firsts: dict[Labels, Tally] = {}
        self._speeds: dict[Labels, Tally] = {}
        self._tools = Counter[Labels]()
        self._tool_seconds: dict[Labels, Tally] = {}

    async def handling(self, stage: AnyStage, handle: Handle, entry: Entry) -> Handled:
        """Time it."""
        began = perf_counter()
        handled = await handle(entry)
        self._of(stage.name).handling.add(perf_counter() - began)
        return handled

    def taken(self, stage: str, ids: Sequence[bytes]) -> None:
        """Count how long the first, which waited longest, did so, by the server's clock and this machine's."""
        self._of(stage).waits.add(max(0.0, time() - int(ids[0].partition(b"-")[0]) / 1000))

    def settled(self, stage: AnyStage, batch: Sequence[Handled], results: Sequence[int], seconds: float) -> None:
        """Count what became of them."""
        of = self._of(stage.name)
        of.settling.add(seconds)
        of.batches.add(len(batch))
        outcomes = [handled.outcome for handled in batch]
        if outcomes.count(EMITTED) == results.count(1) == len(batch):  # as nearly always
            of.outcomes["handled"] += len(batch)
            return
        for handled, result in zip(batch, results, strict=True):
            of.outcomes[_outcome(handled, result)] += 1

    def trouble(self, stage: str) -> None:
        """Count it."""
        self._of(stage).troubles += 1

    def effect(self, kind: Literal["ask", "call"], *, ran: bool) -> None:
        """Count it."""
        self._effects[kind, "run" if ran else "replayed"] += 1

    @contextmanager
    def asking(self, engine: str, event: InferenceRequested, run_id: str) -> Generator[Asked]:
        """Count the question, its tokens and its times."""
        asked = _Asked()
        try:
            yield asked
        finally:
            usage, seconds = asked.usage, perf_counter() - asked.began
            model = (engine, usage.model or event.model or "none")
            self._asked[_room(self._asked, (*model, asked.outcome))] += 1
            for kind, count in (("input", usage.tokens_in), ("output", usage.tokens_out), ("cached", usage.cached)):
                self._tokens[_room(self._tokens, (*model, kind))] += count
            if asked.outcome == "ok":
                _tally(self._answers, model, SECONDS).add(seconds)
                if usage.tokens_out and usage.seconds > 0:
                    _tally(self._speeds, model, SPEEDS).add(usage.tokens_out / usage.seconds)
            if asked.first_after is not None:
                _tally(self._firsts, model, SECONDS).add(asked.first_after)

    @contextmanager
    def using(self, tool: str, call_id: str, arguments: Callable[[], str]) -> Generator[Used]:
        """Count the call and its time."""
        used, began = _Used(), perf_counter()
        try:
            yield used
        finally:
            self._tools[_room(self._tools, (tool, used.outcome))] += 1
            _tally(self._tool_seconds, (tool,), SECONDS).add(perf_counter() - began)

    def collect(self) -> Iterable[Metric]:
        """All families, each also while it has nothing to say."""
        yield from self._of_stages()
        yield _counter("victoria_effects", "Results of effects, run now or replayed from the journal.",
                       ("kind", "source"), self._effects)  # fmt: skip
        yield _counter("victoria_model_requests", "Questions put to engines of this process, by what came of them.",
                       ("engine", "model", "outcome"), self._asked)  # fmt: skip
        yield _counter("victoria_model_tokens", "Tokens read (cached: of these, not anew) and written by models.",
                       ("engine", "model", "kind"), self._tokens)  # fmt: skip
        of_models = ("engine", "model")
        yield _histogram("victoria_model_answer_seconds", "Seconds until an answer was whole, waiting for a slot too.",
                         of_models, self._answers)  # fmt: skip
        yield _histogram("victoria_model_first_token_seconds", "Seconds until the first piece of a streamed answer.",
                         of_models, self._firsts)  # fmt: skip
        yield _histogram("victoria_model_output_tokens_per_second", "How fast answers were written, by engines' count.",
                         of_models, self._speeds)  # fmt: skip
        breakers = GaugeMetricFamily(
            "victoria_model_breaker_open", "Whether a model is left alone since it failed.", labels=(*of_models, "node")
        )
        for offer in self.offers():
            model = offer.model
            breakers.add_metric((model.engine, model.name, model.node), float(offer.state != "closed"))
        yield breakers
        yield _counter("victoria_tool_calls", "Calls of tools that were carried out, by what came of them.",
                       ("tool", "outcome"), self._tools)  # fmt: skip
        yield _histogram("victoria_tool_seconds", "Seconds a tool took.", ("tool",), self._tool_seconds)
        written = CounterMetricFamily("victoria_history_entries", "Entries of all streams written to the database.")
        if (count := self.written()) is not None:
            written.add_metric((), count)
        yield written

    def _of_stages(self) -> Iterable[Metric]:
        stages, label = self._stages, ("stage",)
        outcomes = {(name, kind): count for name, of in stages.items() for kind, count in of.outcomes.items()}
        yield _counter("victoria_stage_entries", "Settled handlings of entries, by outcome.",
                       ("stage", "outcome"), outcomes)  # fmt: skip
        yield _counter("victoria_stage_server_errors", "Calls of the event server that failed, and were tried again.",
                       label, {(name,): of.troubles for name, of in stages.items()})  # fmt: skip
        for name, text, tallies in (
            (
                "victoria_stage_handling_seconds",
                "Seconds from an entry's turn to its outcome, of the first of a read.",
                _handling,
            ),
            (
                "victoria_stage_wait_seconds",
                "Seconds from arrival until a worker took it, of the first of a read.",
                _waits,
            ),
            ("victoria_stage_settle_seconds", "Seconds to settle a batch, with all tries.", _settling),
            ("victoria_stage_batch_entries", "Entries settled in one call.", _batches),
        ):
            yield _histogram(name, text, label, {(stage,): tallies(of) for stage, of in stages.items()})

    def _of(self, stage: str) -> _Stage:
        return self._stages.setdefault(stage, _Stage())


def _handling(of: _Stage) -> Tally:
    return of.handling


def _waits(of: _Stage) -> Tally:
    return of.waits


def _settling(of: _Stage) -> Tally:
    return of.settling


def _batches(of: _Stage) -> Tally:
    return of.batches


def _outcome(handled: Handled, result: int) -> str:
    """What became of an entry."""
    if result < 0:
        return "conflict"
    if result == 0:
        return "elsewhere"
    if handled.outcome is EMITTED:
        return "handled"
    if isinstance(handled.outcome, Again):
        return "retried" if handled.outcome.error else "put_off"
    return "dead"


def _room(found: Counter[Labels], labels: Labels) -> Labels:
    """The labels, or `other` for each where there are too many already."""
    return labels if labels in found or len(found) < MOST_LABELS else (OTHER,) * len(labels)


def _tally(found: dict[Labels, Tally], labels: Labels, bounds: Sequence[float]) -> Tally:
    if labels not in found and len(found) >= MOST_LABELS:
        labels = (OTHER,) * len(labels)
    return found.setdefault(labels, Tally(bounds))


def _counter(name: str, text: str, labels: Sequence[str], counts: Mapping[Labels, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def _histogram(name: str, text: str, labels: Sequence[str], tallies: dict[Labels, Tally]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, tally in tallies.items():
        family.add_metric(values, tally.buckets, tally.total)
    return family
