"""`victoria bench`: what this machine and its server can do."""

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from time import monotonic
from typing import Annotated, TypeVar

import anyio
import typer

from consumers.bench import ALL, QUICK, InferFigures
from consumers.bench import infer as bench_infer
from consumers.bench_plan import PlanFigures
from consumers.bench_plan import plan as bench_plan
from consumers.bench_replay import ReplayFigures
from consumers.bench_replay import replays as bench_replays
from consumers.postgres.bench import ProjectFigures
from consumers.postgres.bench import project as bench_project
from deploy.database import database_server
from deploy.loading import Loaded
from deploy.victoria import Victoria
from deploy.wiring import still_topology
from gateway.complain import Interrupted
from gateway.interrupt import interruptible
from gateway.options import Json, configured, with_victoria
from gateway.progress import Progress as Shown
from gateway.screen import answer, emit, note
from gateway.serve import settle_in
from schemas.errors import CouldNotStart
from streams import bench
from streams.bench import HopFigures, Progress, RunFigures

R = TypeVar("R")

TELL_EVERY = 2.0
"""Seconds between lines about what is done so far."""

app = typer.Typer(
    name="bench",
    help="Measure what this machine can do, on keys of its own that are removed afterwards.",
    epilog="Example: victoria bench hop",
)


@app.callback(invoke_without_command=True)
def choose(context: typer.Context) -> None:
    """Measure what this machine can do, on keys of its own that are removed afterwards."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


@app.command("hop")
@configured
def hop(
    loaded: Loaded,
    events: Annotated[int, typer.Option(min=1, max=10_000_000, metavar="N", help="How many go through.")] = 60_000,
    batch: Annotated[
        int, typer.Option(min=1, max=4_096, metavar="N", help="How many the worker has in hand at once.")
    ] = 256,
    as_json: Json = False,
) -> None:
    """Measure how fast one worker moves events through a stage that does nothing.

    Example: victoria bench hop --events 200000
    """

    async def work(victoria: Victoria) -> HopFigures:
        return await bench.hop(victoria.client, victoria.settings.prefix, events, batch, _teller())

    figures = _measured(loaded, work)
    if as_json:
        emit(figures)
        return
    answer(
        f"{figures.hops_per_s:,.0f} hops/s in one worker process ({figures.cpu_us_per_hop:.2f} µs of CPU a hop)\n"
        f"{figures.server_limit_per_s:,.0f} hops/s is what the server alone could do "
        f"({figures.server_us_per_hop:.2f} µs a hop): {figures.share_of_limit:.0%} of it\n"
        f"{figures.events:,} events, {figures.batch} in hand at once, {figures.seconds:.2f} s, {figures.server}"
    )


@app.command("observed")
@configured
def observed(
    loaded: Loaded,
    events: Annotated[int, typer.Option(min=1, max=10_000_000, metavar="N", help="How many go through.")] = 20_000,
    rounds: Annotated[int, typer.Option(min=1, max=1_000, metavar="N", help="How often each is measured.")] = 25,
    as_json: Json = False,
) -> None:
    """Measure what metrics and traces cost: the hop with nobody listening and with both on, in turn. Needs the extra
    otel.

    Example: victoria bench observed --rounds 11
    """
    if find_spec("opentelemetry") is None:
        raise CouldNotStart(
            "otel.missing", "Traces need opentelemetry.", "Install it: pip install victoria-streams[otel]"
        )
    from deploy.observed.bench import ObservedFigures
    from deploy.observed.bench import observed as bench_observed

    async def work(victoria: Victoria) -> ObservedFigures:
        return await bench_observed(victoria.client, victoria.settings.prefix, events, 256, rounds, _teller())

    figures = _measured(loaded, work)
    if as_json:
        emit(figures)
        return
    answer(
        f"{figures.cost:+.1%} of a hop's time is what metrics and traces of one run in {1 / figures.share:,.0f} cost "
        f"({figures.cpu_cost:+.1%} of its CPU: {figures.cpu_us_off:.2f} µs, then {figures.cpu_us_traced:.2f} µs)\n"
        f"{figures.metrics_cost:+.1%} with metrics alone, {figures.all_traced_cost:+.1%} with traces of all runs, and "
        f"{figures.noise:+.1%} with nothing: so much is the machine's own\n"
        f"{figures.hops_per_s_off:,.0f} hops/s, then {figures.hops_per_s_observed:,.0f}; medians of {figures.rounds} "
        f"rounds of {figures.events:,} events, in turn, {figures.server}"
    )


@app.command("run")
@configured
def run(
    loaded: Loaded,
    runs: Annotated[int, typer.Option(min=1, max=10_000_000, metavar="N", help="How many runs.")] = 4_000,
    in_flight: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="How many at once.")] = 256,
    as_json: Json = False,
) -> None:
    """Measure whole runs of five stages, each with one recorded effect: latency of one alone, and runs a second.

    Example: victoria bench run --in-flight 64
    """

    async def work(victoria: Victoria) -> RunFigures:
        return await bench.run(victoria.client, victoria.settings.prefix, runs, in_flight, _teller())

    figures = _measured(loaded, work)
    if as_json:
        emit(figures)
        return
    answer(
        f"{figures.p50_ms:.2f} ms for a run alone (median; 99 of 100 within {figures.p99_ms:.2f} ms)\n"
        f"{figures.runs_per_s:,.0f} runs/s with {figures.in_flight} at once\n"
        f"{figures.runs:,} runs of {figures.stages} stages in one worker process, {figures.server}"
    )


@app.command("plan")
@configured
def plan(
    loaded: Loaded,
    goals: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="How many goals are routed.")] = 200,
    as_json: Json = False,
) -> None:
    """Measure how soon a goal that needs no planning is at its step, and what steps side by side save.

    Example: victoria bench plan --goals 1000
    """

    async def work(victoria: Victoria) -> PlanFigures:
        return await bench_plan(victoria.client, victoria.settings.prefix, loaded.root, goals, _teller())

    figures = _measured(loaded, work)
    if as_json:
        emit(figures)
        return
    answer(
        f"{figures.routed_p50_ms:.2f} ms from a goal that rules are sure of to its step (median of {figures.goals:,}; "
        f"99 of 100 within {figures.routed_p99_ms:.2f} ms)\n"
        f"{figures.times_one:.2f} times one step is what six take side by side, three at once "
        f"({figures.steps_s:.2f} s and {figures.step_s:.2f} s, a model takes 0.2 s for each)\n"
        f"one worker process, {figures.server}"
    )


@app.command("replay")
@configured
def replay(
    loaded: Loaded,
    runs: Annotated[int, typer.Option(min=1, max=1_000_000, metavar="N", help="How many runs.")] = 10_000,
    as_json: Json = False,
) -> None:
    """Measure how fast recorded runs are read, folded again from their journals, and compared.

    Example: victoria bench replay --runs 1000
    """

    async def work(victoria: Victoria) -> ReplayFigures:
        still = still_topology(victoria.settings, victoria.projects)
        prefix = victoria.settings.prefix
        return await bench_replays(victoria.client, prefix, victoria.topology, still, runs, _teller())

    figures = _measured(loaded, work)
    if as_json:
        emit(figures)
        return
    answer(
        f"{figures.events_per_s:,.0f} events/s replayed, {figures.runs_per_s:,.0f} runs/s\n"
        f"{figures.runs:,} runs of {figures.events // figures.runs} handled events, {figures.outputs:,} outputs "
        f"compared, {figures.seconds:.2f} s, {figures.server}"
    )


@app.command("infer")
@configured
def infer(
    loaded: Loaded,
    quick: Annotated[bool, typer.Option("--quick", metavar="", help="A first look, in some seconds.")] = False,
    as_json: Json = False,
) -> None:
    """Measure what asking a model through the streams costs, with the local model, and how consumers scale.

    Example: victoria bench infer
    """

    async def work(victoria: Victoria) -> InferFigures:
        with Shown() as shown:
            victoria.engines.progress = shown.download
            engine = await victoria.engines.local()
        try:
            extent = QUICK if quick else ALL
            return await bench_infer(victoria.client, victoria.settings.prefix, engine, _teller(), extent)
        finally:
            with anyio.CancelScope(shield=True):
                await engine.close()

    figures = _measured(loaded, work)
    if as_json:
        emit(figures)
        return
    scaling = ", ".join(f"{share:.0%} with {number}" for number, share in figures.scaling.items())
    answer(
        f"{figures.tokens_per_s:,.0f} tokens/s through the streams, {figures.raw_tokens_per_s:,.0f} of the engine "
        f"alone ({figures.model}, 4 questions at once): {figures.share_of_raw:.0%} of it\n"
        f"{figures.added_p50_ms:.2f} ms are added to an answer (median)\n"
        f"{figures.cached_share:.0%} of prompts were read before, over like goals; "
        f"{figures.cached_share_two_stages:.0%} with two stages at once\n"
        f"{scaling}: throughput of inference consumers, of what so many could do"
    )


@app.command("project")
@configured
def project(
    loaded: Loaded,
    events: Annotated[int, typer.Option(min=1, max=10_000_000, metavar="N", help="How many are written.")] = 50_000,
    as_json: Json = False,
) -> None:
    """Measure how fast one projector writes what streams say to the database.

    Example: victoria bench project --events 100000
    """

    async def work(victoria: Victoria) -> ProjectFigures:
        prefix, topology = victoria.settings.prefix, victoria.topology
        return await bench_project(victoria.client, prefix, topology, url, events, _teller())

    with database_server(loaded.settings) as url:
        figures = _measured(loaded, work)
    if as_json:
        emit(figures)
        return
    answer(
        f"{figures.events_per_s:,.0f} events/s by one projector, to the archive and the read models\n"
        f"{figures.copy_per_s:,.0f} rows/s is what the server takes by COPY, of the archive alone: "
        f"{figures.share_of_copy:.0%} of it\n"
        f"{figures.events:,} events, {figures.seconds:.2f} s, bodies packed to {figures.packed:.0%}, "
        f"{figures.server}, {figures.database}"
    )


def _measured(loaded: Loaded, work: Callable[[Victoria], Awaitable[R]]) -> R:
    async def interruptibly(victoria: Victoria) -> R:
        settle_in()  # as a worker does
        async with interruptible(lambda: Interrupted("interrupted", "Interrupted; its keys are removed.")):
            return await work(victoria)

    return with_victoria(loaded, interruptibly)


def _teller() -> Progress:
    """Tells on standard error how far a measurement is, from time to time."""
    told = monotonic()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal told
        if monotonic() - told > TELL_EVERY:
            told = monotonic()
            note(f"· {done:,} of {total:,} {what}", "dim")

    return tell
