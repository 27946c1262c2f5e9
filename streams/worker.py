"""A worker: some stages of a topology at work in this process, until it is told to stop."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

import anyio
import structlog
from anyio.abc import TaskStatus

from streams.answers import Answers
from streams.asking import Asker, Router
from streams.connection import TROUBLE, Client
from streams.context import Effector
from streams.duties import Duties
from streams.groups import create_groups
from streams.hop import Hop
from streams.journal import Journal
from streams.keys import Keys
from streams.observer import SILENT, Observer
from streams.records import Records
from streams.retention import Keep, Retention
from streams.scripts import Scripts
from streams.topology import Topology

_log: Any = structlog.get_logger()


def process_name() -> str:
    """A new name for who works in this process: its machine, its id, and what no later process of that id has."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}"


def is_gone(consumer: str) -> bool:
    """Whether such a name is that of a process of this machine that is no more."""
    host, _, rest = consumer.rpartition("-")[0].rpartition("-")
    if host != socket.gethostname() or not rest.isdigit():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError, ValueError):
        return False
    return False


@dataclass(frozen=True, slots=True)
class Terms:
    """How a worker works. Seconds: `lease`, how long it counts as alive without a sign; `grace`, how long it may take
    to finish what it holds when it stops; `model_timeout`, how long a question to a model may take, and `model_wait`,
    how long its event may wait for a model to be there; `keep`, how long events stay on their streams and an ended
    run's keys on the server. `keep_entries` is how many entries a stream keeps, `keep_dead` how many dead letters; what
    is not acknowledged stays in any case."""

    lease: float = 10.0
    grace: float = 10.0
    model_timeout: float = 300.0
    model_wait: float = 3600.0
    keep: float = 604_800.0
    keep_entries: int = 1_000_000
    keep_dead: int = 100_000


class Companion(Protocol):
    """What a stage needs at work beside it. It is given the worker's name, and says when it has started."""

    async def __call__(self, consumer: str, *, task_status: TaskStatus[None]) -> None:
        """Run until cancelled."""
        ...


class Worker:
    """Runs stages. `run` returns after `stop`, with everything it held settled or released.

    `companions` run beside the stages, each started before anything is read, and cancelled at the end.
    """

    def __init__(
        self,
        stages: Sequence[str],
        topology: Topology,
        client: Client,
        keys: Keys,
        router: Router,
        terms: Terms,
        companions: Sequence[Companion] = (),
        observer: Observer = SILENT,
    ) -> None:
        self.name = process_name()
        self._terms = terms
        scripts, self._records = Scripts(client), Records(client)
        journal = Journal(client, keys, self._records)
        self._answers = Answers(client, journal, keys.answers(self.name))
        asker = Asker(client, keys, journal, self._answers, router, terms.model_timeout, terms.model_wait, observer)
        effector = Effector(keys, self._records, journal, asker, observer)
        self._companions = companions
        self._hops = [Hop(topology.stage(stage), topology, client, self.name, effector, terms.keep) for stage in stages]
        self._duties = [Duties(hop, keys, scripts, terms.lease) for hop in self._hops]
        keep = Keep(terms.keep, terms.keep_entries, terms.keep_dead)
        self._retention = Retention(client, keys, topology, self.name, keep)
        self._create_groups = lambda: create_groups(client, keys, topology)
        self._stop = anyio.Event()

    def stop(self) -> None:
        """Read no more, finish or release what is in hand, and return from `run`."""
        self._stop.set()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until `stop`. Raises redis errors only before the first read."""
        try:
            await self._create_groups()
            for duties in self._duties:
                await duties.start()
            await self._work(task_status)
            for duties in self._duties:
                try:
                    await duties.stop()
                except TROUBLE as problem:
                    # Without the server the lease ends by itself.
                    _log.warning("worker.leave_failed", error=str(problem))
        finally:
            with anyio.CancelScope(shield=True):
                for part in (*self._hops, self._records):
                    await part.close()
        _log.info("worker.stopped", worker=self.name)

    async def _work(self, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._answers.listen)
            beside.start_soon(self._retention.run)
            for duties in self._duties:
                beside.start_soon(duties.run)
            for companion in self._companions:
                await beside.start(companion, self.name)
            async with anyio.create_task_group() as hops:
                for hop in self._hops:
                    hops.start_soon(hop.run)
                _log.info("worker.started", worker=self.name, stages=[hop.stage.name for hop in self._hops])
                task_status.started()
                await self._stop.wait()
                for hop in self._hops:
                    hop.stop()
                hops.cancel_scope.deadline = anyio.current_time() + self._terms.grace
            beside.cancel_scope.cancel()
