"""Whatever workers do in whatever order, an event is answered once: a model of workers against a real server.

A model worker does what a real one does, by the same scripts, but a step at a time: it reads, handles, settles part of
what it holds in one of the ways there are, crashes, is paused past its lease and wakes. Hypothesis finds the order.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from schemas.envelope import Envelope, decode, encode
from schemas.errors import ErrorInfo
from schemas.events import Event, GoalSubmitted, GoalUnderstood
from streams.connection import connect
from streams.entry import Entry, accepts
from streams.keys import Keys
from streams.outcome import EMITTED, Again, Dead, DeadLetter
from streams.scripts import Scripts
from streams.settlement import Handled, NewState, Settlement, Speech
from streams.topology import Topology
from tests.workshop import intake_stage, understood, wipe

R = TypeVar("R")
GROUP = "understand"
WORKERS = st.sampled_from(("one", "two"))
RUNS = st.sampled_from(("red", "blue"))
WAYS = st.sampled_from(("emit", "emit", "emit", "retry", "snooze", "dead"))


async def _never(_event: GoalSubmitted, _ctx: Any) -> list[Event]:
    raise AssertionError("the model handles entries itself")


class ModelWorker:
    """What a worker believes to hold, and what has become of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.held: dict[bytes, Entry] = {}
        self.handled: dict[bytes, Handled] = {}


class Workers(RuleBasedStateMachine):
    """Two workers of one stage, whose state is the list of events of a run that it has answered."""

    url: str = ""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.Runner()
        stage = intake_stage(_never, state=list[str])
        self.keys, self.client = Keys(f"test-{uuid4().hex[:12]}"), connect(self.url)
        self.any: Any = self.client
        self.scripts = Scripts(self.client)
        topology = Topology((stage,), {GoalSubmitted: "intake"}, frozenset({GoalUnderstood}))
        self.speech, self.accepts = Speech(stage, topology), accepts(stage)
        self.settlement = Settlement(stage, self.speech.streams, self.keys, "0", keep=60)
        self.source, self.delayed = self.keys.stream("0", "intake"), self.keys.delayed("0", "intake")
        self.results, self.dead = self.keys.stream("0", "results"), self.keys.dead("0")
        self.leases = self.keys.leases("0", GROUP)
        self.workers: dict[str, ModelWorker] = {}
        self.published: list[str] = []
        self.do(self.any.xgroup_create(self.source, GROUP, id="0", mkstream=True))

    def do(self, work: Coroutine[Any, Any, R]) -> R:
        """Run one step of the model on its loop."""
        return self.loop.run(work)

    def worker(self, name: str) -> ModelWorker:
        """A worker by name."""
        return self.workers.setdefault(name, ModelWorker(name))

    @rule(run=RUNS, count=st.integers(1, 3))
    def publish(self, run: str, count: int) -> None:
        for _ in range(count):
            name = f"event {len(self.published)}"
            envelope = Envelope(name, run, 1, datetime.now(UTC), "user", GoalSubmitted(goal=name))
            self.do(self.any.xadd(self.source, {"type": "GoalSubmitted", "event": encode(envelope)}))
            self.published.append(name)

    @rule(name=WORKERS, count=st.integers(1, 3), way=WAYS)
    def read(self, name: str, count: int, way: str) -> None:
        """Read and handle: from now on the outcome is fixed, on the state as it is now."""
        self.lease(name, alive=True)
        group = ("GROUP", GROUP, name, "COUNT", count, "STREAMS", self.source, ">")
        reply = self.do(self.any.execute_command("XREADGROUP", *group))
        self.take(name, reply[0][1] if reply else [], way)

    @rule(name=WORKERS, count=st.integers(1, 3), way=WAYS)
    def reclaim(self, name: str, count: int, way: str) -> None:
        """Take over from the dead, and handle."""
        self.lease(name, alive=True)
        reclaim = self.scripts.reclaim(self.source, self.leases, self.dead, GROUP, name, count, b'"ENTRY"')
        reclaimed = self.do(reclaim)
        assert reclaimed.lost == 0
        self.take(name, reclaimed.entries, way)

    @rule(name=WORKERS, way=WAYS)
    def handle_again(self, name: str, way: str) -> None:
        """As after a conflict, or when a worker that was paused comes to an entry only now."""
        worker = self.worker(name)
        worker.handled = {entry.id: self.outcome(entry, way) for entry in worker.held.values()}

    @rule(name=WORKERS, most=st.integers(1, 4), reply_is_lost=st.booleans())
    def settle(self, name: str, most: int, reply_is_lost: bool) -> None:
        """Settle what is handled. If the reply is lost the same will be settled again."""
        worker = self.worker(name)
        batch = list(worker.handled.values())[:most]
        if not batch:
            return
        results = self.do(self.scripts.settle(*self.settlement.of(batch)))
        if reply_is_lost:
            return
        for handled, result in zip(batch, results, strict=True):
            del worker.handled[handled.entry.id]
            if result < 0:
                worker.handled[handled.entry.id] = self.outcome(handled.entry, "emit")
            else:
                del worker.held[handled.entry.id]

    @rule(name=WORKERS)
    def crash(self, name: str) -> None:
        self.workers.pop(name, None)
        self.lease(name, alive=False)

    @rule(name=WORKERS)
    def pause(self, name: str) -> None:
        """Its lease ends; when it wakes it still believes to hold what it held."""
        self.lease(name, alive=False)

    @rule()
    def promote(self) -> None:
        self.do(self.scripts.promote(self.delayed, self.source, self.dead, 100, b"{}"))

    @rule()
    def trim(self) -> None:
        """Retention, as tight as can be: all that is older than a millisecond and done."""
        self.do(self.scripts.retain(self.source, 0.001, 1_000, 100, (GROUP,)))

    @invariant()
    def nothing_is_said_twice(self) -> None:
        if hasattr(self, "loop"):
            said = self.answers()
            assert max(Counter(said).values(), default=0) <= 1
            counted = [name for run in ("red", "blue") for name in self.state(run)[0]]
            assert sorted(counted) == sorted(said), "state and outputs are one change"

    def teardown(self) -> None:
        """Whatever happened: after all are dead, a healthy worker finds everything that has no answer yet."""
        if not hasattr(self, "loop"):
            return
        try:
            for name in self.workers:
                self.lease(name, alive=False)
            healthy = self.worker("healthy")
            for _ in range(len(self.published) + 2):
                self.promote()
                self.reclaim("healthy", 100, "emit")
                self.read("healthy", 100, "emit")
                while healthy.held:
                    self.settle("healthy", 1, reply_is_lost=False)
            self.nothing_is_said_twice()
            assert sorted(self.answers() + self.letters()) == sorted(self.published)
            assert self.do(self.any.xpending(self.source, GROUP))["pending"] == 0
            assert self.do(self.any.zcard(self.delayed)) == 0
        finally:
            self.do(wipe(self.client, self.keys.prefix))
            self.do(self.client.aclose())
            self.loop.close()

    def lease(self, name: str, *, alive: bool) -> None:
        """Give or end a lease."""
        self.do(self.scripts.lease(self.leases, name, 3600 if alive else -1))

    def take(self, name: str, entries: list[tuple[bytes, list[bytes]]], way: str) -> None:
        """Take entries in hand, unless they are already, and handle them."""
        worker = self.worker(name)
        for entry_id, fields in entries:
            if entry_id not in worker.held:
                entry = worker.held[entry_id] = Entry(entry_id, fields, "0", self.accepts)
                worker.handled[entry_id] = self.outcome(entry, way)

    def outcome(self, entry: Entry, way: str) -> Handled:
        """What becomes of an entry, on its run's state as it is now."""
        assert entry.envelope
        match way:
            case "emit":
                names, version = self.state(entry.envelope.run)
                said = self.speech.said(entry.envelope, [understood(entry.envelope.id)], "user")
                return Handled(
                    entry, EMITTED, said, NewState(version, msgspec.json.encode([*names, entry.envelope.id]))
                )
            case "retry":
                return Handled(entry, Again(0, entry.attempt + 1, ErrorInfo("stage.error", "once more")))
            case "snooze":
                return Handled(entry, Again(0, entry.attempt))
            case _:
                return Handled(entry, Dead(ErrorInfo("stage.rejected", "no")))

    def state(self, run: str) -> tuple[list[str], int]:
        """The events a run has counted, and the state's version."""
        data, version = self.do(self.any.hmget(self.keys.run("0", run), [GROUP, f"{GROUP}.v"]))
        return msgspec.json.decode(data or b"[]", type=list[str]), int(version or 0)

    def answers(self) -> list[str]:
        """The events that have an answer."""
        found = [decode("GoalUnderstood", fields[b"event"]) for _, fields in self.do(self.any.xrange(self.results))]
        return [envelope.cause for envelope in found]

    def letters(self) -> list[str]:
        """The events that are dead letters."""
        found = [msgspec.json.decode(f[b"event"], type=DeadLetter) for _, f in self.do(self.any.xrange(self.dead))]
        return [decode(letter.type, letter.event.encode()).id for letter in found]


def test_an_event_is_answered_once_in_whatever_order_workers_read_settle_crash_and_wake(redis_url: str) -> None:
    Workers.url = redis_url
    unhurried = settings(
        max_examples=80,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        print_blob=True,
    )
    run_state_machine_as_test(Workers, settings=unhurried)
