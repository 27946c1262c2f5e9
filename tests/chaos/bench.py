"""One crash: a stage dies at one boundary of one run, another worker takes over, and the judge looks.

The run needs every kind of effect. The stage that is to die is a process of its own, the victim; the other stages work
in this process. Victims are forked from a warmed process that never ran an event loop.
"""

import multiprocessing
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus

from schemas.events import RunFinished
from streams.append import Publisher
from streams.connection import Client, connect
from streams.follow import seen
from streams.keys import Keys
from streams.topology import Topology
from streams.worker import Terms, Worker
from tests.chaos.boundary import Boundary, BoundaryProxy
from tests.chaos.evidence import collect, unsettled
from tests.chaos.judge import Verdict, judge
from tests.chaos.ledger import Ledger, read
from tests.chaos.server import Server
from tests.chaos.stages import STAGES, chaos_topology, expected, goal, project, route
from tests.chaos.worker import Order, serve

REPEATING = {"lease": 2, "reclaim": 1, "promote": 1, "retain": 2}
"""What a worker does again and again whether there is work or not, and how often a crash there is tried."""
ACTION = "action"
GAP = {("intent", "after"), (ACTION, "before"), (ACTION, "after"), ("record", "before")}
"""Only here an action's outcome may be unknown."""
LEASE = 0.3
PATIENCE = 30.0
POLL = 0.03
RUN = "run-2024"
"""A run of every kind of effect: two rounds of tools and a fusion. By its events' ids each stage snoozes once."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One crash of one stage, or none."""

    number: int
    stage: str
    boundary: Boundary | None


@dataclass(frozen=True, slots=True)
class Crash:
    """What came of a cell. `died` says that the victim really died there; `answered` and `actions` what it had done."""

    cell: Cell
    died: bool
    verdict: Verdict
    answered: Counter[str]
    actions: int

    @property
    def holds(self) -> bool:
        """Whether it died there and nothing was lost or doubled, nor given up where nothing was in doubt."""
        return self.died and self.verdict.holds and (self.in_gap or not self.verdict.unknowns)

    @property
    def in_gap(self) -> bool:
        """Whether it died between an intent and its record."""
        at = self.cell.boundary
        return at is not None and (at.meaning, at.when) in GAP


class Bench:
    """Where cells are carried out: one server, a prefix and a folder for each cell."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server, self._folder = server, folder
        self._nursery = multiprocessing.get_context("forkserver")
        self._nursery.set_forkserver_preload(["tests.chaos.worker", "uvloop"])

    async def crash(self, cell: Cell) -> Crash:
        """Carry out one cell."""
        async with anyio.create_task_group() as tasks, AsyncExitStack() as leaving:
            leaving.callback(tasks.cancel_scope.cancel)  # the last to be called: the rest leaves in peace
            return await self._crash(cell, tasks, leaving)
        raise AssertionError("a cell ends with its crash or with an error")

    async def _crash(self, cell: Cell, tasks: TaskGroup, leaving: AsyncExitStack) -> Crash:
        folder = project(self._folder / f"cell-{cell.number}")
        keys, client, at = Keys(f"cell-{cell.number}"), connect(self._server.url), cell.boundary
        leaving.push_async_callback(client.aclose)
        die = (at.when, at.number) if at and at.meaning == ACTION else None
        proxy = BoundaryProxy(self._server.socket, None if die else at)
        await tasks.start(proxy.run)
        order = Order(proxy.url, keys.prefix, str(folder), (cell.stage,), lease=LEASE, die=die)
        ledger = Ledger(order.ledger)
        leaving.callback(ledger.close)
        topology = chaos_topology(client, keys, folder, ledger)

        victim = self._fork(order)
        leaving.callback(_bury, victim)
        proxy.victim = victim.pid or 0
        while victim.is_alive() and not proxy.answered["lease"]:
            await anyio.sleep(POLL)  # so that the groups are for the victim to create
        stop_others = await _hire(tasks, [stage for stage in STAGES if stage != cell.stage], topology, client, keys)
        await Publisher(client, keys).publish([(RUN, goal(0))], "intake")
        await _over(client, keys, topology, victim)
        victim.terminate()
        while victim.is_alive():
            await anyio.sleep(POLL)

        stop_successor = await _hire(tasks, [cell.stage], topology, client, keys)
        await _over(client, keys, topology)
        await stop_others()
        await stop_successor()
        verdict = judge(await collect(client, keys, topology, {RUN: expected(0)}, order.ledger))
        actions = sum(line.fact == "done" and line.pid == victim.pid for line in read(order.ledger))
        return Crash(cell, victim.exitcode == -signal.SIGKILL, verdict, proxy.answered, actions)

    def _fork(self, order: Order) -> BaseProcess:
        process = self._nursery.Process(target=serve, args=(order, str(self._folder / "victims.log")), daemon=True)
        process.start()
        return process


async def _hire(
    tasks: TaskGroup, stages: Sequence[str], topology: Topology, client: Client, keys: Keys
) -> Callable[[], Awaitable[None]]:
    """A worker in this process; call what is returned to stop it, and wait until it has."""
    worker = Worker(stages, topology, client, keys, route, Terms(lease=LEASE, grace=5.0, model_timeout=PATIENCE))
    gone = anyio.Event()

    async def run(*, task_status: TaskStatus[None]) -> None:
        await worker.run(task_status=task_status)
        gone.set()

    async def stop() -> None:
        worker.stop()
        await gone.wait()

    await tasks.start(run)
    return stop


async def _over(client: Client, keys: Keys, topology: Topology, victim: BaseProcess | None = None) -> None:
    """Wait until the run has ended and nothing is left to handle, or the victim is dead, or patience is at its end."""
    server: Any = client
    results = keys.stream("0", "results")
    with anyio.move_on_after(PATIENCE):
        while victim is None or victim.is_alive():
            entries = [seen(results, *entry) for entry in await server.xrange(results)]
            ended = any(entry.envelope and isinstance(entry.envelope.body, RunFinished) for entry in entries)
            if ended and not await unsettled(client, keys, topology):
                return
            await anyio.sleep(POLL)


def _bury(process: BaseProcess) -> None:
    process.kill()
    process.join()


def boundaries(first: Crash, second: Crash) -> list[Boundary]:
    """Every boundary of a stage, from two runs without a crash: what both have come by."""
    reached = first.answered & second.answered
    reached[ACTION] = min(first.actions, second.actions)
    return [
        Boundary(meaning, number, when)
        for meaning, count in sorted(reached.items())
        if meaning
        for number in range(1, min(count, REPEATING.get(meaning, count)) + 1)
        for when in ("before", "after")
    ]


def trouble(crash: Crash) -> list[str]:
    """What to look at."""
    cell, at = crash.cell, crash.cell.boundary
    name = f"cell {cell.number}: {cell.stage}, {at.when} {at.meaning} {at.number}" if at else f"cell {cell.number}"
    lines = [f"{name}: {fault}: {what}" for fault, found in crash.verdict.faults.items() for what in found]
    if not crash.died:
        lines.append(f"{name}: it did not die there")
    if crash.verdict.unknowns and not crash.in_gap:
        lines.append(f"{name}: an outcome was given up as unknown though nothing was in doubt")
    return lines
