"""What orchestration costs: the way of a goal that rules are sure of to its step, and steps side by side."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import perf_counter

import anyio
import msgspec

from consumers.agents.http import Agents
from consumers.agents.load import AgentLoad
from consumers.bench import Fixed
from consumers.clock import seconds_left
from consumers.delegate import Delegation
from consumers.experts.roster import Folders
from consumers.hypotheses import Hypotheses
from consumers.inference import Desk, Inference
from consumers.offers import Board, OfferRouter
from consumers.questions import Questions
from consumers.sessions import Sessions
from consumers.tools.workspace import Workspace
from consumers.topology import Parts, topology
from llm.models import Wish
from llm.pool import Pool
from llm.sources import Ready
from schemas.events import Event, GoalSubmitted, PlanProposed
from schemas.plan import Plan, Step
from streams.append import Publisher, new_run_id
from streams.bench import Progress, name_of_server, own_keys, patient, quantile
from streams.connection import Client
from streams.endings import ended
from streams.follow import Seen, follow
from streams.journal import Journal
from streams.keys import Keys
from streams.worker import Terms, Worker

WARM_UP = 20
STEPS, STEP = 6, 0.2
"""Steps side by side, and seconds that a model takes for each."""
ROUNDS = 5
ROUTING = ("understand", "aggregate")
"""The stages on the way of a goal that rules are sure of."""
WORKING = ("aggregate", "step-execute", "infer.local", "infer.local.background")


class PlanFigures(msgspec.Struct, frozen=True):
    """`routed_p50_ms` is from publishing a goal that rules are sure of to its step's being ready, of `goals` one after
    the other. `steps_s` is how long a plan of six steps takes that don't need each other, `step_s` one of one such
    step, and `times_one` the ratio; a model takes 0.2 s for each."""

    routed_p50_ms: float
    routed_p99_ms: float
    goals: int
    step_s: float
    steps_s: float
    times_one: float
    server: str


async def plan(client: Client, prefix: str, folder: Path, goals: int, progress: Progress) -> PlanFigures:
    """Measure both, on keys of its own; goals are looked at as said in a project in `folder`.

    Raises redis errors, and VictoriaError `bench.stalled`.
    """
    version = await name_of_server(client)
    async with own_keys(client, prefix) as keys, _working(client, keys, folder, ROUTING):
        latencies = await _routed(client, keys, goals, progress)
    async with own_keys(client, prefix) as keys, _working(client, keys, folder, WORKING):
        took = [[await _planned(client, keys, steps, progress) for steps in (1, STEPS)] for _ in range(ROUNDS + 1)]
    one, several = (quantile([each[which] for each in took[1:]], 0.5) for which in (0, 1))
    return PlanFigures(
        routed_p50_ms=round(1000 * quantile(latencies, 0.50), 3),
        routed_p99_ms=round(1000 * quantile(latencies, 0.99), 3),
        goals=goals,
        step_s=round(one, 4),
        steps_s=round(several, 4),
        times_one=round(several / one, 2),
        server=version,
    )


@asynccontextmanager
async def _working(client: Client, keys: Keys, folder: Path, stages: Sequence[str]) -> AsyncGenerator[None]:
    """Inside, a worker runs these stages, with a model that always takes as long."""
    board = Board(client, keys)
    desk = Desk(client, keys, Journal(client, keys), board)
    local = Inference("local", STEPS, lambda: Pool([Ready("local", Fixed(STEP, STEPS))]), desk)
    alone = Delegation(Agents({}), AgentLoad(client, keys, (), 1), partial(ended, client, keys))
    questions, left = Questions(client, keys), partial(seconds_left, client, keys)
    parts = Parts(
        lambda _project: Workspace(folder),
        (local,),
        questions,
        left,
        Sessions(client, keys),
        alone,
        Hypotheses(client, keys, Publisher(client, keys)),
        experts=Folders(),
    )
    companions = [local.attend] if "infer.local" in stages else []
    worker = Worker(stages, topology(parts), client, keys, OfferRouter(board, Wish(), ()), Terms(), companions)
    async with anyio.create_task_group() as tasks:
        await tasks.start(worker.run)
        yield
        worker.stop()


async def _routed(client: Client, keys: Keys, goals: int, progress: Progress) -> list[float]:
    """Seconds from publishing to the step's being ready, for each of these goals."""
    publisher, tell, took = Publisher(client, keys), patient(progress), list[float]()
    steps = follow(client, {keys.stream("0", "step-execute"): "0-0"})
    for number in range(WARM_UP + goals):
        began = perf_counter()
        goal = GoalSubmitted(goal=f"restart nginx on the staging cluster {number}")  # none is remembered
        await publisher.publish([(new_run_id(), goal)], "intake")
        await _next(steps, tell, len(took), goals)
        took.append(perf_counter() - began)
    await steps.aclose()
    return took[WARM_UP:]


async def _planned(client: Client, keys: Keys, count: int, progress: Progress) -> float:
    """Seconds for a plan of so many steps that don't need each other, from its coming to the run's end."""
    tell, results = patient(progress), keys.stream("0", "results")
    steps = tuple(Step(str(number), "answer", "Say yes.", how="answer") for number in range(count))
    proposed: Event = PlanProposed(restated="Say yes.", plan=Plan("bench", steps))
    run_id, began = new_run_id(), perf_counter()
    ends = follow(client, {results: "0-0"})
    await Publisher(client, keys).publish([(run_id, proposed)], "aggregate")
    while not any(_is_end(each, run_id) for each in await _next(ends, tell, 0, 1)):
        pass
    await ends.aclose()
    return perf_counter() - began


async def _next(batches: AsyncGenerator[Sequence[Seen]], tell: Progress, done: int, total: int) -> Sequence[Seen]:
    """The next entries; raises VictoriaError `bench.stalled` where none come."""
    while not (batch := await anext(batches)):
        tell("ready" if total > 1 else "ended", done, total)
    return batch


def _is_end(seen: Seen, run_id: str) -> bool:
    return bool(seen.envelope and seen.envelope.run == run_id and seen.envelope.body.ends_run)
