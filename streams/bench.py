"""What a machine can do, measured with a real worker on keys of its own, which are removed afterwards.

`hop`  entries that wait on a stream go through a stage that does nothing: read, decoded, handled, settled, one output.
`run`  chains of five stages with one journaled effect each, from publishing to the end seen on the results stream.

Worker and publisher are this one process, so figures are those of one core; the server takes another.
"""

import math
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from mmap import PAGESIZE
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import perf_counter, process_time
from typing import Any
from uuid import uuid4

import anyio
import msgspec

from schemas.errors import VictoriaError
from schemas.events import (
    Event,
    GoalSubmitted,
    GoalUnderstood,
    Metadata,
    PlanProposed,
    RunFinished,
    StepFinished,
    StepReady,
)
from schemas.plan import Plan, Step
from streams.append import Publisher, new_run_id
from streams.asking import NoModels
from streams.connection import TROUBLE, Client, server_info, version_of
from streams.follow import follow, last_id
from streams.keys import Keys
from streams.observer import SILENT, Observer
from streams.stage import AnyStage, Context, Policy, Stage
from streams.topology import Topology
from streams.worker import Terms, Worker

PAYLOAD = "check the page and fix it " * 4
PUBLISH_AT_ONCE = 1_000
WARM_UP = 20
LATENCIES = 300
"""Runs that go one at a time, at most, for the latency."""
CLEAN_UP_WITHIN, SETTLED = 60.0, 0.2
PATIENCE = 10.0
"""Seconds without any progress after which a measurement gives up."""

Progress = Callable[[str, int, int], None]
"""Hears what is done, how much of it, and how much in all."""


def quiet(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody looks at."""


def patient(progress: Progress) -> Progress:
    """Progress that gives up, with a VictoriaError `bench.stalled`, once nothing has been added for too long."""
    most, since = -1, perf_counter()

    def hear(what: str, done: int, total: int) -> None:
        nonlocal most, since
        now = perf_counter()
        if done > most:
            most, since = done, now
        elif now - since > PATIENCE:
            raise VictoriaError(
                "bench.stalled",
                f"{done:,} of {total:,} are {what}, and for {PATIENCE:g} s no more.",
                "Its keys may have been deleted, or the server wiped; measure again.",
            )
        progress(what, done, total)

    return hear


class HopFigures(msgspec.Struct, frozen=True):
    """`server_limit_per_s` is what the server alone could do, by its own count of the time it spends on a hop;
    `cpu_us_per_hop` is this process's part, which a busy machine does not change much. `growth_mib` is how much memory
    this process took while the last nine tenths went through."""

    hops_per_s: float
    server_limit_per_s: float
    share_of_limit: float
    server_us_per_hop: float
    cpu_us_per_hop: float
    growth_mib: float
    seconds: float
    events: int
    batch: int
    server: str


class RunFigures(msgspec.Struct, frozen=True):
    """Latencies are those of `latency_runs` runs, one at a time; `runs_per_s` that of `runs`, `in_flight` at once."""

    p50_ms: float
    p99_ms: float
    runs_per_s: float
    in_flight: int
    runs: int
    latency_runs: int
    stages: int
    server: str


@asynccontextmanager
async def own_keys(client: Client, prefix: str) -> AsyncGenerator[Keys]:
    """Keys under a prefix that nobody else has; all of them are removed afterwards, however that comes."""
    keys = Keys(f"{prefix}-bench-{uuid4().hex[:12]}")
    try:
        yield keys
    finally:
        with suppress(*TROUBLE), anyio.move_on_after(CLEAN_UP_WITHIN, shield=True):
            for server in await client.masters():
                await _remove(server, keys)
                await anyio.sleep(SETTLED)  # what was under way when it was cancelled may come behind
                await _remove(server, keys)


async def _remove(server: Any, keys: Keys) -> None:
    """Remove the keys of a server."""
    removal = server.pipeline(transaction=False)
    async for name in server.scan_iter(match=f"{{{keys.prefix}:*", count=1_000):
        removal.unlink(name)
        if len(removal) == PUBLISH_AT_ONCE:
            await removal.execute()
    await removal.execute()


@asynccontextmanager
async def working(client: Client, keys: Keys, topology: Topology, observer: Observer = SILENT) -> AsyncGenerator[None]:
    """Inside, a worker of this process serves all stages."""
    stages = [stage.name for stage in topology.stages]
    worker = Worker(stages, topology, client, keys, NoModels(), Terms(), (), observer)
    async with anyio.create_task_group() as tasks:
        await tasks.start(worker.run)
        yield
        worker.stop()


async def hop(client: Client, prefix: str, events: int, batch: int, progress: Progress) -> HopFigures:
    """Measure the hop: `events` entries through one worker that takes `batch` in hand at most. Raises redis errors, and
    what `drain` does."""
    async with own_keys(client, prefix) as keys:
        await fill(client, keys, events, progress)
        return await drain(client, keys, events, batch, progress)


async def fill(client: Client, keys: Keys, events: int, progress: Progress, observer: Observer = SILENT) -> None:
    """Put `events` entries on the stream that `drain` reads."""
    publisher = Publisher(client, keys, observer=observer)
    for done in range(0, events, PUBLISH_AT_ONCE):
        count = min(PUBLISH_AT_ONCE, events - done)
        await publisher.publish([(new_run_id(), GoalSubmitted(goal=PAYLOAD)) for _ in range(count)], "intake")
        progress("published", done + count, events)


async def drain(
    client: Client, keys: Keys, events: int, batch: int, progress: Progress, observer: Observer = SILENT
) -> HopFigures:
    """Take `events` entries off the stream with a fresh worker, from its start to the last output's being there.

    Raises VictoriaError `bench.stalled` when no more come, for example since the server was wiped.
    """
    left, handled, memory = events, anyio.Event(), 0.0

    async def handle(event: GoalSubmitted, _ctx: Context[None]) -> Sequence[Event]:
        nonlocal left, memory
        left -= 1
        if left <= 0:
            handled.set()
        elif left == events * 9 // 10:
            memory = resident_mib()
        return [GoalUnderstood(restated=event.goal, category="simple", kind="general")]

    topology = Topology((noop(handle, batch),), {GoalSubmitted: "intake"}, frozenset({GoalUnderstood}))
    results = keys.stream("0", "results")
    version = await name_of_server(client)
    before = await server_time(client)
    started, cpu = perf_counter(), process_time()
    async with working(client, keys, topology, observer):
        tell = patient(progress)
        while not handled.is_set():
            with anyio.move_on_after(1.0):
                await handled.wait()
            tell("handled", events - max(left, 0), events)
            await client.xlen(results)  # raises where the server has gone, for which a worker waits
        tell = patient(progress)
        while (settled := await client.xlen(results)) < events:
            tell("settled", settled, events)
            await anyio.sleep(0.0005)
        elapsed, cpu = perf_counter() - started, process_time() - cpu
        spent = await server_time(client) - before
    per_s, limit = events / elapsed, 1e6 * events / spent if spent else 0.0
    return HopFigures(
        hops_per_s=round(per_s, 1),
        server_limit_per_s=round(limit, 1),
        share_of_limit=round(per_s / limit, 4) if limit else 0.0,
        server_us_per_hop=round(spent / events, 3),
        cpu_us_per_hop=round(1e6 * cpu / events, 3),
        growth_mib=round(resident_mib() - memory, 1) if memory else 0.0,
        seconds=round(elapsed, 4),
        events=events,
        batch=batch,
        server=version,
    )


def noop(handle: Callable[[GoalSubmitted, Context[None]], Any], batch: int) -> AnyStage:
    """The stage of the hop's measurement, around a handler."""
    return Stage(
        name="noop",
        reads="intake",
        accepts=(GoalSubmitted,),
        emits=(GoalUnderstood,),
        handle=handle,
        policy=Policy(concurrency=batch),
    )


async def run(client: Client, prefix: str, runs: int, in_flight: int, progress: Progress) -> RunFigures:
    """Measure whole runs: their latency one at a time, then `runs` of them with `in_flight` at once."""
    async with own_keys(client, prefix) as keys:
        topology = chain()
        version = await name_of_server(client)
        async with working(client, keys, topology):
            await drive(client, keys, WARM_UP, 1)
            _, latencies = await drive(client, keys, min(LATENCIES, runs), 1)
            progress("one at a time", len(latencies), len(latencies))
            elapsed, _ = await drive(client, keys, runs, in_flight, progress)
    return RunFigures(
        p50_ms=round(1000 * quantile(latencies, 0.50), 3),
        p99_ms=round(1000 * quantile(latencies, 0.99), 3),
        runs_per_s=round(runs / elapsed, 1),
        in_flight=in_flight,
        runs=runs,
        latency_runs=len(latencies),
        stages=len(topology.stages),
        server=version,
    )


async def drive(
    client: Client, keys: Keys, runs: int, in_flight: int, progress: Progress = quiet
) -> tuple[float, list[float]]:
    """Publish runs, `in_flight` at once, and see them end. Seconds for all, and for each from publishing to its end.

    Raises VictoriaError `bench.stalled` when no more end.
    """
    publisher, results = Publisher(client, keys), keys.stream("0", "results")
    batches = follow(client, {results: await last_id(client, results)})
    begun: dict[str, float] = {}
    took: list[float] = []
    tell = patient(progress)

    async def publish(count: int) -> None:
        ids = [new_run_id() for _ in range(count)]
        begun.update(dict.fromkeys(ids, perf_counter()))
        await publisher.publish([(run_id, CHAIN[0]) for run_id in ids], "stage-1")

    started = perf_counter()
    await publish(min(in_flight, runs))
    async for batch in batches:
        now = perf_counter()
        took += [now - begun.pop(seen.envelope.run) for seen in batch if seen.envelope and seen.envelope.run in begun]
        tell("ended", len(took), runs)
        if len(took) == runs:
            break
        if more := min(in_flight - len(begun), runs - len(took) - len(begun)):
            await publish(more)
    return perf_counter() - started, took


_STEP = Step(id="1", title="Check the page", instruction=PAYLOAD)
CHAIN: tuple[Event, ...] = (
    GoalSubmitted(goal=PAYLOAD),
    GoalUnderstood(restated=PAYLOAD, category="simple", kind="general"),
    PlanProposed(restated=PAYLOAD, plan=Plan(strategy="simple", steps=(_STEP,))),
    StepReady(step=_STEP, goal=PAYLOAD),
    StepFinished(step_id="1", status="ok", output=PAYLOAD),
    RunFinished(status="completed", output=PAYLOAD, method="simple", stages=(), metadata=Metadata(
        model="none", source="model", delegated_to=None, tokens_in=0, tokens_out=0, seconds=0.0, steps=(),
    )),
)  # fmt: skip
"""What is said in a run: the first by the publisher, each other by the stage that reads the one before it."""


def chain() -> Topology:
    """A stage for each step of CHAIN, asking a model that does nothing."""
    stages = tuple(_link(number, *CHAIN[number - 1 : number + 1]) for number in range(1, len(CHAIN)))
    return Topology(stages, {type(CHAIN[0]): "stage-1"}, frozenset({type(CHAIN[-1])}))


def _link(number: int, heard: Event, said: Event) -> AnyStage:
    async def handle(_event: Event, ctx: Context[None]) -> Sequence[Event]:
        await ctx.call("model", null_model, PAYLOAD, str, effects="none")
        return [said]

    name = f"stage-{number}"
    policy = Policy(concurrency=256)
    return Stage(name=name, reads=name, accepts=(type(heard),), emits=(type(said),), handle=handle, policy=policy)


async def null_model(_request: str, _key: str) -> str:
    """A model that costs nothing, so that what is measured is everything else."""
    return "done"


async def server_time(client: Client) -> int:
    """Microseconds the server has spent so far on what a hop consists of: reading, and scripts."""
    spent = 0
    for server in await client.masters():
        stats: dict[str, Any] = await server.info("commandstats")
        spent += sum(stats.get(f"cmdstat_{command}", {}).get("usec", 0) for command in ("xreadgroup", "evalsha"))
    return spent


def resident_mib() -> float:
    """Memory this process has; where the system doesn't tell (only Linux does), the most it ever had."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGESIZE / 2**20
    except OSError:
        peak = getrusage(RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


async def name_of_server(client: Client) -> str:
    """Which server this is, as people write it."""
    info, *others = await server_info(client)
    kind = "Valkey" if "valkey_version" in info else "Redis"
    return f"{kind} {version_of(info)}" + (f", {len(others) + 1} masters" if others else "")


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that a share `q` of all does not exceed."""
    return sorted(values)[max(math.ceil(q * len(values)) - 1, 0)]
