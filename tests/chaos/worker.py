"""One worker process: `python -m tests.chaos.worker '<order as JSON>'`. SIGTERM stops it, with exit code 0."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import anyio
import msgspec
import structlog

from streams.connection import TROUBLE, connect
from streams.keys import Keys
from streams.worker import Terms, Worker
from tests.chaos.ledger import Ledger
from tests.chaos.stages import INFERENCE, STAGES, chaos_topology, project
from tests.workshop import To


class Order(msgspec.Struct, frozen=True):
    """What a worker is to do. `die` ends it by SIGKILL before or after its n-th outside action."""

    url: str
    prefix: str
    folder: str
    stages: tuple[str, ...] = STAGES
    partitions: int = 1
    lease: float = 1.0
    delay: float = 0.0
    die: tuple[str, int] | None = None

    @property
    def ledger(self) -> Path:
        """The file for outside actions."""
        return Path(self.folder) / "ledger.jsonl"

    @property
    def terms(self) -> Terms:
        """Short leases, and a model that may take long when its process is killed again and again."""
        return Terms(lease=self.lease, grace=5.0, model_timeout=60.0)


def doomed(die: tuple[str, int] | None) -> Callable[[str], None]:
    """Hears of outside actions, and ends this process at the one that `die` names."""
    heard: dict[str, int] = {}

    def moment(when: str) -> None:
        heard[when] = heard.get(when, 0) + 1
        if die == (when, heard[when]):
            os.kill(os.getpid(), signal.SIGKILL)

    return moment


def listening(folder: Path, pid: int) -> Path:
    """The file which says that a worker takes SIGTERM for what it is meant; before, it just dies of it."""
    return folder / f"listening-{pid}"


async def work(order: Order) -> None:
    """Work until SIGTERM. A server that is away at the start is waited for."""
    client, keys, ledger = connect(order.url), Keys(order.prefix, order.partitions), Ledger(order.ledger)
    topology = chaos_topology(client, keys, project(Path(order.folder)), ledger, order.delay, doomed(order.die))
    stopped = anyio.Event()
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        listening(Path(order.folder), os.getpid()).touch()
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                async for _ in signals:
                    stopped.set()

            tasks.start_soon(listen)
            while not stopped.is_set():
                worker = Worker(order.stages, topology, client, keys, To(INFERENCE), order.terms)
                async with anyio.create_task_group() as stopping:

                    async def stop(worker: Worker = worker) -> None:
                        await stopped.wait()
                        worker.stop()

                    stopping.start_soon(stop)
                    try:
                        await worker.run()
                    except TROUBLE as problem:  # only before the first read
                        structlog.get_logger().warning("chaos.no_server", error=str(problem))
                        await anyio.sleep(0.1)
                    stopping.cancel_scope.cancel()
            tasks.cancel_scope.cancel()
    await client.aclose()
    ledger.close()


def log_to(file: TextIO) -> None:
    """One JSON line for each event of the log."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(file),
    )


def serve(order: Order, log: str = "") -> None:
    """This whole process is one worker; its log goes to a file, or to standard error."""
    log_to(Path(log).open("a", buffering=1) if log else sys.stderr)  # noqa: SIM115 - open until the process ends
    backend: dict[str, Any] = {"use_uvloop": True}
    anyio.run(work, order, backend_options=backend)


if __name__ == "__main__":
    serve(msgspec.json.decode(sys.argv[1], type=Order))
