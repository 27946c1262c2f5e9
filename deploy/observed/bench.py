"""What it costs to be observed: the hop, measured in turn with nobody listening and with metrics and traces on."""

import statistics
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

import msgspec
from anyio import to_thread
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from deploy.observed.figures import Figures
from deploy.observed.many import together
from deploy.observed.traces import Traces
from streams.bench import HopFigures, Progress, drain, fill, own_keys
from streams.connection import Client
from streams.observer import SILENT, Observer

SHARE = 0.001
"""Of runs that are traced: at so many hops a second some dozens of spans a second and process."""


class ObservedFigures(msgspec.Struct, frozen=True):
    """Medians over `rounds`, each of `events` hops with nobody listening and with metrics, then with traces of a
    `share` of the runs too, and of all of them. The costs are by how much slower a round's hops are than those of the
    same round with nobody listening, and how much more of the processor's time one takes. `noise` is how much slower
    they seem with nobody listening once more: what is less says nothing."""

    cpu_us_off: float
    cpu_us_metrics: float
    cpu_us_traced: float
    cpu_us_all_traced: float
    metrics_cost: float
    cost: float
    all_traced_cost: float
    noise: float
    cpu_cost: float
    hops_per_s_off: float
    hops_per_s_observed: float
    share: float
    rounds: int
    events: int
    server: str


async def observed(
    client: Client, prefix: str, events: int, batch: int, rounds: int, progress: Progress
) -> ObservedFigures:
    """Measure in turn, so that a busy machine is busy for all alike. Raises what streams.bench.hop does."""
    with sink() as endpoint:

        def traces(share: float) -> Traces:
            return Traces(sampler=ParentBased(TraceIdRatioBased(share)), endpoint=endpoint)

        ways: list[Callable[[], tuple[Figures | None, Traces | None]]] = [
            lambda: (None, None),
            lambda: (Figures(), None),
            lambda: (Figures(), traces(SHARE)),
            lambda: (None, None),
            lambda: (Figures(), traces(1.0)),
        ]
        found: list[list[HopFigures]] = [[] for _ in ways]
        for number in range(rounds):
            turns = list(zip(ways[:-1], found[:-1], strict=True))
            turns = [*turns[number % len(turns) :], *turns[: number % len(turns)]]  # each is as often the first
            for way, of in turns if number % 2 else reversed(turns):
                of.append(await _hop(client, prefix, events, batch, progress, *way()))
            found[-1].append(await _hop(client, prefix, max(1, events // 20), batch, progress, *ways[-1]()))  # so slow
            progress("rounds", number + 1, rounds)

    def cost(way: int) -> float:
        pairs = zip(found[0], found[way], strict=True)
        return round(statistics.median(off.hops_per_s / on.hops_per_s for off, on in pairs) - 1, 4)

    cpu = [statistics.median(each.cpu_us_per_hop for each in of) for of in found]
    speed = [statistics.median(each.hops_per_s for each in of) for of in found]
    off, metrics, traced, _, every = cpu
    return ObservedFigures(
        cpu_us_off=off,
        cpu_us_metrics=metrics,
        cpu_us_traced=traced,
        cpu_us_all_traced=every,
        metrics_cost=cost(1),
        cost=cost(2),
        all_traced_cost=cost(4),
        noise=cost(3),
        cpu_cost=round(
            statistics.median(b.cpu_us_per_hop / a.cpu_us_per_hop for a, b in zip(found[0], found[2], strict=True)) - 1,
            4,
        ),
        hops_per_s_off=round(speed[0], 1),
        hops_per_s_observed=round(speed[2], 1),
        share=SHARE,
        rounds=rounds,
        events=events,
        server=found[0][0].server,
    )


async def _hop(
    client: Client,
    prefix: str,
    events: int,
    batch: int,
    progress: Progress,
    figures: Figures | None,
    traces: Traces | None,
) -> HopFigures:
    observer: Observer = together(figures, traces)
    try:
        async with own_keys(client, prefix) as keys:
            await fill(client, keys, events, progress, traces or SILENT)
            if traces:
                await to_thread.run_sync(traces.flush)  # what the publisher says is not the hop's
            return await drain(client, keys, events, batch, progress, observer)
    finally:
        if traces:
            await to_thread.run_sync(traces.close)


@contextmanager
def sink() -> Generator[str]:
    """The address of a collector that keeps nothing, in a process of its own."""
    command = [sys.executable, "-P", "-m", "deploy.observed.sink"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - this program itself
        try:
            assert process.stdout  # noqa: S101 - it is a pipe
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1/traces"
        finally:
            process.terminate()
