"""One run of chaos: goals come in, workers work, calamities strike, and in the end everything is counted."""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import msgspec

from schemas.events import RunFinished
from streams.append import Publisher
from streams.connection import TROUBLE, Client, connect
from streams.follow import seen
from streams.keys import Keys
from streams.topology import Topology
from tests.chaos.calamities import Calamity, schedule
from tests.chaos.evidence import collect, unsettled
from tests.chaos.judge import Verdict, judge
from tests.chaos.ledger import Ledger
from tests.chaos.proxy import FaultyProxy
from tests.chaos.server import Server
from tests.chaos.stages import chaos_topology, expected, goal
from tests.chaos.worker import Order, listening

PREFIX = "chaos"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of what. Seconds: `lease` of a worker, `delay` of an answer, `patience` without any progress."""

    seed: int
    runs: int = 500
    calamities: int = 40
    workers: int = 4
    partitions: int = 2
    lease: float = 1.0
    delay: float = 0.02
    patience: float = 40.0


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it. `died` are workers that ended without being told to, `codes` the exit codes of the others."""

    plan: Plan
    verdict: Verdict
    died: Sequence[str]
    codes: Sequence[int]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether nothing was lost or doubled, and every worker stopped as it should."""
        return self.verdict.holds and not self.died and not any(self.codes)


class Crew:
    """Worker processes, each in a place; one that was killed is replaced."""

    def __init__(self, order: Order, size: int) -> None:
        self.order, self._size = order, size
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self.died: list[str] = []

    def start(self) -> None:
        """Start one in every empty place; one that ended by itself is noted."""
        for place in range(self._size):
            process = self._running.get(place)
            if process and process.poll() is not None:
                self.died.append(f"worker {process.pid} ended with {process.returncode}")
                process = None
            if not process:
                command = [sys.executable, "-m", "tests.chaos.worker", msgspec.json.encode(self.order).decode()]
                with (Path(self.order.folder) / "workers.log").open("ab") as log:
                    self._running[place] = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def kill(self, place: int) -> None:
        """kill -9, and a new one."""
        process = self._running.pop(place)
        process.kill()
        process.wait()
        self.start()

    def send(self, place: int, number: signal.Signals) -> None:
        """Send a signal."""
        self._running[place].send_signal(number)

    async def stop(self) -> list[int]:
        """SIGTERM to all; their exit codes. One that does not stop in 20 s is killed."""
        self.start()
        for process in self._running.values():
            process.send_signal(signal.SIGCONT)
            with anyio.move_on_after(20):
                while process.poll() is None and not listening(Path(self.order.folder), process.pid).exists():
                    await anyio.sleep(0.02)
            process.terminate()
        codes = [await anyio.to_thread.run_sync(_end, process) for process in self._running.values()]
        self._running.clear()
        return codes

    def clear(self) -> None:
        """Leave nobody behind, whatever happened."""
        for process in self._running.values():
            process.kill()
            process.wait()


def _end(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


async def chaos(plan: Plan, folder: Path, say: Callable[[str], None]) -> Report:
    """One seed, in a folder of its own. Raises TimeoutError only where the server does not come back."""
    server = Server(folder / "server")
    await server.start()
    async with anyio.create_task_group() as tasks:
        proxy = FaultyProxy(server.socket)
        await tasks.start(proxy.run)
        order = Order(proxy.url, PREFIX, str(folder), partitions=plan.partitions, lease=plan.lease, delay=plan.delay)
        crew = Crew(order, plan.workers)
        try:
            return await _chaos(plan, server, proxy, crew, say)
        finally:
            crew.clear()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await server.kill()
    raise AssertionError("a storm ends with a report or with an error")


async def _chaos(plan: Plan, server: Server, proxy: FaultyProxy, crew: Crew, say: Callable[[str], None]) -> Report:
    began = monotonic()
    crew.start()
    runs = await _storm(plan, server, proxy, crew, say)
    client, keys, ledger = connect(server.url), Keys(PREFIX, plan.partitions), Ledger(crew.order.ledger)
    topology = chaos_topology(client, keys, Path(crew.order.folder), ledger)
    await _until_over(client, keys, topology, len(runs), plan.patience)
    codes = await crew.stop()
    verdict = judge(await collect(client, keys, topology, runs, crew.order.ledger))
    ledger.close()
    await client.aclose()
    return Report(plan, verdict, crew.died, codes, monotonic() - began)


async def _storm(
    plan: Plan, server: Server, proxy: FaultyProxy, crew: Crew, say: Callable[[str], None]
) -> dict[str, str]:
    """Publish all goals, a share before each calamity; what each run's answer must hold."""
    client = connect(proxy.url)  # goals come in over the same bad network
    publisher = Publisher(client, Keys(PREFIX, plan.partitions))
    runs = {f"run-{number}": expected(number) for number in range(plan.runs)}
    numbers = list(range(plan.runs))
    calamities = schedule(plan.seed, plan.calamities, plan.workers, plan.lease)
    share = -(-plan.runs // max(1, len(calamities)))
    async with anyio.create_task_group() as publishing:
        for calamity in calamities:
            burst, numbers = numbers[:share], numbers[share:]
            publishing.start_soon(_publish, publisher, burst)
            await anyio.sleep(calamity.gap)
            say(f"{calamity.kind} (worker {calamity.victim}, {calamity.lasts} s)")
            await _strike(calamity, server, proxy, crew)
            crew.start()
        proxy.heal()
        await _publish(publisher, numbers)
    await client.aclose()
    return runs


async def _publish(publisher: Publisher, numbers: Sequence[int]) -> None:
    """Publish goals, and again until it is sure that they are published."""
    while numbers:
        try:
            await publisher.publish([(f"run-{number}", goal(number)) for number in numbers], "intake")
        except TROUBLE:
            await anyio.sleep(0.1)
        else:
            return


async def _strike(calamity: Calamity, server: Server, proxy: FaultyProxy, crew: Crew) -> None:
    """Carry out one calamity; all is well again afterwards, but for what it broke."""
    match calamity.kind:
        case "kill worker":
            crew.kill(calamity.victim)
        case "pause worker":
            crew.send(calamity.victim, signal.SIGSTOP)
            await anyio.sleep(calamity.lasts)
            crew.send(calamity.victim, signal.SIGCONT)
        case "kill server":
            await server.kill()
            await anyio.sleep(calamity.lasts / 2)
            await server.start()
        case "shut server down":
            await server.shut_down()
            await anyio.sleep(calamity.lasts / 2)
            await server.start()
        case "reset":
            proxy.reset()
        case "cut replies":
            proxy.cuts = 3
            await anyio.sleep(calamity.lasts)
        case "latency":
            proxy.latency = calamity.lasts / 10
            await anyio.sleep(calamity.lasts)
        case "trickle":
            proxy.trickle = True
            await anyio.sleep(calamity.lasts)
        case "black hole":
            proxy.hole = True
            await anyio.sleep(calamity.lasts)
    proxy.heal()


async def _until_over(client: Client, keys: Keys, topology: Topology, runs: int, patience: float) -> None:
    """Wait until every run has ended and nothing is left to handle, or nothing has moved for `patience` seconds."""
    server: Any = client
    last: tuple[int, int] = (-1, -1)
    since = monotonic()
    cursors = {keys.stream(partition, "results"): "-" for partition in keys.of_stream("results")}
    ended: set[str] = set()
    while monotonic() - since < patience:
        for key, after in cursors.items():
            for entry_id, fields in await server.xrange(key, min=after):
                entry = seen(key, entry_id, fields)
                cursors[key] = f"({entry.id}"
                if entry.envelope and isinstance(entry.envelope.body, RunFinished):
                    ended.add(entry.envelope.run)
        left = sum((await unsettled(client, keys, topology)).values())
        if len(ended) >= runs and not left:
            return
        if (now := (len(ended), left)) != last:
            last, since = now, monotonic()
        await anyio.sleep(0.1)
