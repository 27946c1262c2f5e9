"""The hop: reading, handling and settling the entries of one stage in one worker.

    read    XREADGROUP, as many as there is room for          one reader per partition
    handle  up to `concurrency` at once, each with a context  lanes, shared by the partitions
    settle  all that became of them, in one script call       one settler per partition

The three go on side by side: while the server reads and settles, the lanes handle.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from random import random
from typing import Any, cast

import msgspec
import structlog
from anyio import CancelScope, create_task_group

from schemas.envelope import Envelope
from schemas.errors import ErrorInfo
from schemas.events import Event
from streams.connection import TROUBLE, Client
from streams.context import Effector, LiveContext, Overtaken
from streams.endings import LOOK_EVERY, ended
from streams.entry import Entry, accepts
from streams.groups import create_groups
from streams.lanes import Lanes, RunEnded
from streams.observer import Observer
from streams.outcome import EMITTED, Again, Dead, failed, undeclared
from streams.scripts import Scripts
from streams.settlement import NOTHING, Handled, NewState, Settlement, Speech
from streams.settler import Settler
from streams.stage import AnyStage, Snooze
from streams.topology import Topology

READ_BLOCK = 5_000
"""Milliseconds a read waits for entries."""
READ_AT_MOST, READ_BYTES = 256, 16 * 1024 * 1024
"""Entries in one read, fewer where the last ones were so large that these would exceed the bytes."""
PLAIN = 4
"""An entry that was never handled has two fields, each with its name."""
LARGE = 1024 * 1024
"""How large entries may be as long as nothing is known of them."""
ROUNDS = 100
"""Handlings in vain, one right after the other, after which an entry is put off."""
PAUSE = 0.5
"""Seconds between tries while the server is in trouble."""

_log: Any = structlog.get_logger()


class Hop:
    """One stage at work in one worker. `run` until `stop` is called and everything in hand is settled."""

    def __init__(
        self, stage: AnyStage, topology: Topology, client: Client, consumer: str, effector: Effector, keep: float
    ) -> None:
        self.stage, self.consumer = stage, consumer
        self._effector, self._keys = effector, effector.keys
        self._observer: Observer = effector.observer
        self.partitions = self._keys.of_stream(stage.reads)
        self._create_groups = partial(create_groups, client, self._keys, topology)
        self._ended = partial(ended, client, self._keys)
        self._reading = {partition: client.line() for partition in self.partitions}
        self._settling = {partition: client.line() for partition in self.partitions}
        self._accepts, self._speech = accepts(stage), Speech(stage, topology)
        self._lanes = Lanes(stage.policy, self._handle, self._handled)
        self._settlers = {
            partition: Settler(
                Settlement(stage, self._speech.streams, self._keys, partition, keep),
                Scripts(self._settling[partition]),
                self._settled,
                self._wait_out,
            )
            for partition in self.partitions
        }
        self._held: dict[str, set[bytes]] = {partition: set() for partition in self.partitions}
        self._largest = LARGE
        self._stopping, self._free = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Work until stopped; returns once everything in hand is settled."""
        async with create_task_group() as tasks:
            readers, read = CancelScope(), asyncio.Event()

            async def read_all() -> None:
                with readers:
                    async with create_task_group() as reading:
                        for partition in self.partitions:
                            reading.start_soon(self._read, partition)
                read.set()

            tasks.start_soon(read_all)
            tasks.start_soon(self._lanes.run)
            if self.stage.policy.stops_with_run:
                tasks.start_soon(self._stop_with_runs)
            for settler in self._settlers.values():
                tasks.start_soon(settler.run)
            await self._stopping.wait()
            readers.cancel()
            await read.wait()
            # A read that was cancelled may have been answered: what it delivered is still ours to do.
            for partition in self.partitions:
                try:
                    await self._catch_up(partition)
                except TROUBLE as problem:
                    _log.warning("hop.read_failed", stage=self.stage.name, error=str(problem))
            while any(self._held.values()):
                self._free.clear()
                await self._free.wait()
            tasks.cancel_scope.cancel()

    async def close(self) -> None:
        """Close the connections, after `run`."""
        for line in (*self._reading.values(), *self._settling.values()):
            await line.close()

    def stop(self) -> None:
        """Read no more; finish what is in hand."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether no more entries are to be taken in hand."""
        return self._stopping.is_set()

    async def has_room(self) -> int:
        """Wait until this worker can take entries in hand; how many."""
        return await self._lanes.room()

    def fitting(self, most: int) -> int:
        """How many entries to ask for, `most` at most, so that the answer is no larger than READ_BYTES."""
        return max(1, min(most, READ_BYTES // self._largest))

    def weigh(self, all_fields: Iterable[Sequence[bytes]]) -> None:
        """Learn from what came how large entries are."""
        sizes = [len(fields[3]) if len(fields) == PLAIN else sum(map(len, fields)) for fields in all_fields]
        self._largest = max(sizes, default=self._largest) + 1

    def receive(
        self,
        partition: str,
        entry_id: bytes,
        fields: Sequence[bytes],
        deliveries: int = 1,
        *,
        fresh: bool = False,
        observed: bool = False,
    ) -> None:
        """Take a delivered entry in hand, unless it is already. `fresh`: it was never delivered to anybody before."""
        held = self._held[partition]
        if entry_id in held:
            return
        held.add(entry_id)
        entry = Entry(entry_id, fields, partition, self._accepts)
        entry.fresh = fresh and len(fields) == PLAIN  # neither a retry nor a snooze
        entry.observed = observed
        if deliveries > self.stage.policy.deliveries:
            entry.problem = ErrorInfo(
                "entry.poisoned",
                f"{deliveries - 1} workers died while they held this entry.",
                "Look at what it makes the stage do before you redrive it.",
            )
        self._lanes.put(entry)

    async def _read(self, partition: str) -> None:
        fault = False
        while True:
            await self._settlers[partition].few()
            room = min(await self.has_room(), self.fitting(READ_AT_MOST))
            try:
                if fault:
                    # The reply of the failed read may have been lost on the way, its entries are ours already.
                    await self._catch_up(partition)
                    fault = False
                await self._receive_after(partition, ">", room, READ_BLOCK)
                await asyncio.sleep(0)  # first the lanes: what they send should not wait for the next read
            except TROUBLE as problem:
                fault = True
                await self._wait_out(problem)

    async def _catch_up(self, partition: str) -> None:
        """Take in hand what the server holds as delivered to this consumer."""
        last: str | bytes = "0"
        while received := await self._receive_after(partition, last, self.fitting(READ_AT_MOST)):
            last = received

    async def _receive_after(self, partition: str, after: str | bytes, count: int, block: int = 0) -> bytes | None:
        """Read once, waiting up to `block` ms; the last id received."""
        where = ("STREAMS", self._keys.stream(partition, self.stage.reads), after)
        waiting = ("BLOCK", block) if block else ()
        group = ("GROUP", self.stage.name, self.consumer)
        reply = await self._reading[partition].execute_command("XREADGROUP", *group, "COUNT", count, *waiting, *where)
        entries = cast("list[tuple[bytes, Sequence[bytes] | None]]", reply[0][1] if reply else [])
        if entries and after == ">":
            self._observer.taken(self.stage.name, [entry_id for entry_id, _ in entries])
        observed = True
        for entry_id, fields in entries:
            self.receive(partition, entry_id, fields or (), fresh=after == ">", observed=observed)
            observed = False
        self.weigh(fields for _, fields in entries if fields)
        return entries[-1][0] if entries else None

    async def _wait_out(self, problem: Exception) -> None:
        """After trouble with the server. Without its group (it was wiped) the stage starts from the beginning."""
        _log.warning("hop.server_trouble", stage=self.stage.name, error=str(problem))
        self._observer.trouble(self.stage.name)
        await asyncio.sleep(PAUSE)
        if "NOGROUP" in str(problem):
            try:
                await self._create_groups()
                _log.warning("hop.regrouped", stage=self.stage.name)
            except TROUBLE as again:
                _log.warning("hop.regroup_failed", stage=self.stage.name, error=str(again))

    def _handle(self, entry: Entry) -> Awaitable[Handled]:
        """What becomes of an entry, observed if that is of interest."""
        envelope = entry.envelope
        if entry.observed or (envelope and envelope.traceparent):
            return self._observer.handling(self.stage, self._carry_out, entry)
        return self._carry_out(entry)

    async def _carry_out(self, entry: Entry) -> Handled:
        """What becomes of an entry. Nothing a handler does, says or raises gets past here."""
        stage, envelope = self.stage, entry.envelope
        if envelope is None or entry.problem:
            return await self._dead(entry, Dead(entry.problem or ErrorInfo("entry.empty", "The entry has no payload.")))
        while True:
            try:
                return await self._emitted(entry, envelope)
            except Overtaken:
                entry.records.clear()  # and it is no longer fresh
            except BaseException as raised:
                if isinstance(raised, KeyboardInterrupt | GeneratorExit):
                    raise
                problem = self._lanes.failure(raised)
                if isinstance(problem, RunEnded):
                    return self._dropped(entry)
                if not isinstance(problem, Snooze):
                    about = {"stage": stage.name, "run": envelope.run, "event_id": envelope.id}
                    _log.warning("hop.failed", **about, exc_info=problem)
                outcome = failed(problem, entry.attempt, stage.policy, random())  # noqa: S311  # jitter, not a secret
                if isinstance(outcome, Dead):
                    return await self._dead(entry, outcome)
                return self._dropped(entry) if await self._is_over(envelope) else Handled(entry, outcome)

    async def _emitted(self, entry: Entry, envelope: Envelope[Event]) -> Handled:
        """Let the stage handle it. Raises what the handler raises, and what its effects do."""
        stage = self.stage
        before, version = await self._state(entry.partition, envelope.run) if stage.state else (None, 0)
        context = LiveContext(envelope, entry, before, self._effector)
        events = tuple(await stage.handle(envelope.body, context))
        for event in events:
            if not self._speech.speaks(event):
                return await self._dead(entry, Dead(undeclared(stage, event)))
        said = self._speech.said(envelope, events, context.trust)
        if context.state is before:
            return Handled(entry, EMITTED, said)
        return Handled(entry, EMITTED, said, NewState(version, msgspec.json.encode(context.state)))

    async def _dead(self, entry: Entry, outcome: Dead) -> Handled:
        """Give up on an entry, and let its run hear of it."""
        said, envelope = NOTHING, cast("Envelope[Event] | None", entry.envelope or entry.husk)
        self._lanes.leave()
        if self.stage.on_dead and envelope:
            context = LiveContext(envelope, entry, None, self._effector)
            try:
                async with asyncio.timeout(self.stage.policy.timeout):
                    events = await self.stage.on_dead(envelope.body, outcome.error, context)
                said = self._speech.said(envelope, events, envelope.trust)
            except TROUBLE as problem:
                await self._wait_out(problem)  # what it says must not be lost: all of it once more
                return Handled(entry, Again(self.stage.policy.backoff, entry.attempt))
            except (Exception, asyncio.CancelledError) as raised:
                problem = self._lanes.failure(raised)
                _log.error("hop.on_dead_failed", stage=self.stage.name, run=envelope.run, exc_info=problem)
        return Handled(entry, outcome, said)

    def _dropped(self, entry: Entry) -> Handled:
        """What becomes of an entry whose run has ended before it was handled: nothing is said, nor recorded."""
        _log.info("hop.dropped", stage=self.stage.name, run=entry.run)
        entry.records.clear()
        return Handled(entry)

    async def _is_over(self, envelope: Envelope[Event]) -> bool:
        """Whether there is no use in handling an event again, since its run has ended."""
        with suppress(*TROUBLE):
            return self.stage.policy.stops_with_run and bool(await self._ended([envelope.run]))
        return False

    async def _stop_with_runs(self) -> None:
        """Stop handlers whose runs have ended. Those that are quick are done before anybody asks for them."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if runs := self._lanes.at_work():
                try:
                    self._lanes.stop(await self._ended(runs))
                except TROUBLE as problem:
                    _log.warning("hop.not_watched", stage=self.stage.name, error=str(problem))

    async def _state(self, partition: str, run_id: str) -> tuple[Any, int]:
        """The run's state for this stage and its version; a fresh one if there is none."""
        kind, name = self.stage.state, self.stage.name
        assert kind  # noqa: S101 - only asked for where the stage has one
        run = self._keys.run(partition, run_id)
        data, version = await self._effector.records.read(partition, run, name, f"{name}.v")
        return (msgspec.json.decode(data, type=kind), int(version)) if data and version else (kind(), 0)

    def _handled(self, handled: Handled) -> None:
        self._settlers[handled.entry.partition].add(handled)

    def _settled(self, batch: Sequence[Handled], results: list[int], seconds: float) -> None:
        self._observer.settled(self.stage, batch, results, seconds)
        held = self._held[batch[0].entry.partition]
        for handled, result in zip(batch, results, strict=True):
            entry = handled.entry
            if result >= 0:
                held.discard(entry.id)
                continue
            # Another event of the run was faster, or who also holds this one: again, on what is there now.
            entry.records.clear()
            entry.rounds += 1
            if entry.rounds % ROUNDS:
                self._lanes.put(entry)
            else:
                self._handled(Handled(entry, Again(self.stage.policy.backoff, entry.attempt)))
        self._free.set()
