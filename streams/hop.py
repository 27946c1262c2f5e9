"""The hop: reading, handling and settling the entries of one stage in one worker.

    read   XREADGROUP, as many as there is room for           one reader per partition
    handle up to `concurrency` at once, each with a context   lanes, shared by the partitions
    settle all that became of them, in one script call        one settler per partition

A lane goes on to the next entry without giving up the event loop unless its handler waits, so cheap stages run in
tight batches and slow ones side by side. A settler takes whatever has been handled while its last call was under way:
under load calls are big, when idle nothing waits.
"""

import asyncio
from collections.abc import Mapping
from random import random
from time import monotonic
from typing import Any, cast

import msgspec
import structlog
from anyio import CancelScope, create_task_group
from redis.exceptions import ResponseError

from schemas.errors import ErrorInfo
from streams.connection import TROUBLE, Client
from streams.context import Effector, LiveContext
from streams.entry import Entry, Handled, NewState, Output, Settlement, outputs
from streams.outcome import Dead, Emitted, failed, undeclared
from streams.scripts import Scripts
from streams.stage import AnyStage, Snooze
from streams.topology import Topology

READ_BLOCK = 5_000
"""Milliseconds a read waits for entries."""
SETTLE_AT_MOST = 256
"""Entries in one script call, which blocks the server for about 1 ms."""
UNSETTLED_AT_MOST = 4 * SETTLE_AT_MOST
"""Handled entries that may wait for the server before no more are read."""
PAUSE = 0.5
"""Seconds between tries while the server is in trouble."""

_log: Any = structlog.get_logger()


class Hop:
    """One stage at work in one worker. `run` until `stop` is set and everything in hand is settled."""

    def __init__(self, stage: AnyStage, topology: Topology, client: Client, consumer: str, effector: Effector) -> None:
        self.stage, self.consumer = stage, consumer
        self._topology, self._client, self._effector = topology, client, effector
        self._keys, self._scripts = effector.keys, Scripts(client)
        self.partitions = self._keys.of_stream(stage.reads)
        self._ready: asyncio.Queue[Entry] = asyncio.Queue()
        self._outboxes: dict[str, asyncio.Queue[Handled]] = {p: asyncio.Queue() for p in self.partitions}
        self._held: set[tuple[str, bytes]] = set()
        self._room = asyncio.Event()
        self._settled = asyncio.Event()
        self._stopping = asyncio.Event()
        self._busy: dict[asyncio.Task[Any], float] = {}
        self._overdue: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Work until stopped; returns once everything in hand is settled."""
        async with create_task_group() as tasks:
            readers = CancelScope()

            async def read_all() -> None:
                with readers:
                    async with create_task_group() as reading:
                        for partition in self.partitions:
                            reading.start_soon(self._read, partition)

            tasks.start_soon(read_all)
            for partition in self.partitions:
                tasks.start_soon(self._settle, partition)
            for _ in range(self.stage.policy.concurrency):
                tasks.start_soon(self._lane)
            tasks.start_soon(self._watch)
            await self._stopping.wait()
            readers.cancel()
            # A read that was cancelled may have been answered: what it delivered is still ours to do.
            for partition in self.partitions:
                try:
                    await self._catch_up(partition)
                except TROUBLE as problem:
                    _log.warning("hop.read_failed", stage=self.stage.name, error=str(problem))
            while self._held:
                self._settled.clear()
                await self._settled.wait()
            tasks.cancel_scope.cancel()

    def stop(self) -> None:
        """Read no more; finish what is in hand."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether no more entries are to be taken in hand."""
        return self._stopping.is_set()

    def receive(self, partition: str, entry_id: bytes, fields: Mapping[bytes, bytes], deliveries: int = 1) -> None:
        """Take a delivered entry in hand, unless it is already."""
        if (partition, entry_id) in self._held:
            return
        self._held.add((partition, entry_id))
        entry = Entry(entry_id, fields, partition, self.stage)
        if deliveries > self.stage.policy.deliveries:
            entry.problem = ErrorInfo(
                "entry.poisoned",
                f"{deliveries - 1} workers died while they held this entry.",
                "Look at what it makes the stage do before you redrive it.",
            )
        self._ready.put_nowait(entry)

    async def has_room(self) -> int:
        """Wait until this worker can take entries in hand; how many."""
        while (room := self.stage.policy.concurrency - self._ready.qsize() - len(self._busy)) <= 0:
            self._room.clear()
            await self._room.wait()
        return room

    async def create_groups(self) -> None:
        """Make sure the group exists on every partition, from the very first entry on."""
        for partition in self.partitions:
            try:
                stream = self._keys.stream(partition, self.stage.reads)
                await self._client.xgroup_create(stream, self.stage.name, id="0", mkstream=True)
            except ResponseError as problem:
                if "BUSYGROUP" not in str(problem):
                    raise

    async def _read(self, partition: str) -> None:
        fault = False
        while True:
            room = await self.has_room()
            while self._outboxes[partition].qsize() > UNSETTLED_AT_MOST:
                self._settled.clear()
                await self._settled.wait()
            try:
                if fault:
                    # The reply of the failed read may have been lost on the way, its entries are ours already.
                    await self._catch_up(partition)
                    fault = False
                await self._receive_after(partition, ">", room, READ_BLOCK)
            except ResponseError as problem:
                fault = True
                await self._recover(problem)
            except TROUBLE as problem:
                fault = True
                _log.warning("hop.read_failed", stage=self.stage.name, error=str(problem))
                await asyncio.sleep(PAUSE)

    async def _catch_up(self, partition: str) -> None:
        """Take in hand what the server holds as delivered to this consumer."""
        last: bytes = b"0"
        while received := await self._receive_after(partition, last, SETTLE_AT_MOST, None):
            last = received

    async def _receive_after(self, partition: str, after: str | bytes, count: int, block: int | None) -> bytes | None:
        """Read once; the last id received."""
        stream = self._keys.stream(partition, self.stage.reads)
        reply: Any = await self._client.xreadgroup(
            self.stage.name, self.consumer, {stream: after}, count=count, block=block
        )
        last: bytes | None = None
        for entry_id, fields in reply[0][1] if reply else ():
            self.receive(partition, entry_id, fields or {})
            last = entry_id
        return last

    async def _recover(self, problem: ResponseError) -> None:
        """After an error reply: without its group (the server was wiped) the stage starts from the beginning."""
        _log.warning("hop.server_error", stage=self.stage.name, error=str(problem))
        await asyncio.sleep(PAUSE)
        if "NOGROUP" in str(problem):
            try:
                await self.create_groups()
            except TROUBLE as again:
                _log.warning("hop.recover_failed", stage=self.stage.name, error=str(again))

    async def _lane(self) -> None:
        lane = asyncio.current_task()
        assert lane  # noqa: S101 - a coroutine that runs is in a task
        while True:
            entry = await self._ready.get()
            self._busy[lane] = monotonic()
            try:
                handled = await self._handle(entry)
            finally:
                del self._busy[lane]
                self._room.set()
            self._outboxes[entry.partition].put_nowait(handled)

    async def _watch(self) -> None:
        """Stop handlers that take too long. A look at all lanes now and then costs less than a timer for each event."""
        limit = self.stage.policy.timeout
        while True:
            await asyncio.sleep(min(1.0, limit / 10))
            for lane, since in self._busy.items():
                if monotonic() - since > limit and lane not in self._overdue:
                    self._overdue.add(lane)
                    lane.cancel()

    def _was_overdue(self) -> bool:
        """In a lane that is being cancelled: was it for its time? Then the lane itself lives on."""
        lane = asyncio.current_task()
        if lane not in self._overdue:
            return False
        self._overdue.discard(lane)
        return lane.uncancel() == 0

    async def _handle(self, entry: Entry) -> Handled:
        """What becomes of an entry. Nothing a handler does, says or raises gets past here."""
        stage, envelope = self.stage, entry.envelope
        if entry.problem or not envelope:
            return self._dead(entry, entry.problem or ErrorInfo("entry.empty", "The entry has no payload."))
        try:
            before, version = await self._state(entry.partition, envelope.run)
            context = LiveContext(envelope, entry.arrived, before, self._effector)
            events = await stage.handle(envelope.body, context)
            for event in events:
                if not isinstance(event, stage.emits):
                    return self._dead(entry, undeclared(stage, event))
            said = outputs(envelope, events, stage, self._topology, context.trust)
            changed = stage.state and context.state is not before
            after = NewState(version, msgspec.json.encode(context.state)) if changed else None
        except (Exception, asyncio.CancelledError) as raised:
            problem: BaseException = raised
            if isinstance(raised, asyncio.CancelledError):
                if not self._was_overdue():
                    raise
                problem = TimeoutError()
            if not isinstance(problem, Snooze):
                _log.warning("hop.failed", stage=stage.name, run=envelope.run, event_id=envelope.id, exc_info=problem)
            outcome = failed(problem, entry.attempt, stage.policy, random())  # noqa: S311  # jitter, not a secret
            return self._dead(entry, outcome.error) if isinstance(outcome, Dead) else Handled(entry, outcome)
        return Handled(entry, Emitted(), said, after)

    def _dead(self, entry: Entry, error: ErrorInfo) -> Handled:
        """Give up on an entry, and let its run hear of it."""
        said: list[Output] = []
        if self.stage.on_dead and entry.envelope:
            try:
                events = self.stage.on_dead(entry.envelope.body, error)
                said = outputs(entry.envelope, events, self.stage, self._topology, entry.envelope.trust)
            except Exception:
                _log.exception("hop.on_dead_failed", stage=self.stage.name, run=entry.envelope.run)
        return Handled(entry, Dead(error), said)

    async def _state(self, partition: str, run_id: str) -> tuple[Any, str]:
        """The run's state for this stage and its version; a fresh one if there is none."""
        if not self.stage.state:
            return None, "0"
        name = self.stage.name
        data, version = await self._client.hmget(self._keys.run(partition, run_id), [name, f"{name}.v"])
        if data is None:
            return self.stage.state(), "0"
        return msgspec.json.decode(cast("bytes", data), type=self.stage.state), cast("bytes", version).decode()

    async def _settle(self, partition: str) -> None:
        outbox = self._outboxes[partition]
        while True:
            batch = [await outbox.get()]
            while len(batch) < SETTLE_AT_MOST and not outbox.empty():
                batch.append(outbox.get_nowait())
            for handled, result in zip(batch, await self._apply(partition, batch), strict=True):
                if result == -1:
                    # Another event of the run was faster: the same entry again on the fresh state, with its journal.
                    self._ready.put_nowait(handled.entry)
                else:
                    self._held.discard((partition, handled.entry.id))
            self._settled.set()
            self._room.set()

    async def _apply(self, partition: str, batch: list[Handled]) -> list[int]:
        settlement = Settlement(self.stage, self._keys, partition)
        for handled in batch:
            settlement.add(handled)
        while True:
            try:
                return await self._scripts.settle(settlement.keys, settlement.args)
            except ResponseError as problem:
                await self._recover(problem)
            except TROUBLE as problem:
                _log.warning("hop.settle_failed", stage=self.stage.name, error=str(problem))
                await asyncio.sleep(PAUSE)
