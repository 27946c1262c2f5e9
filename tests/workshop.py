"""A small workshop for stream tests: stages made on the spot, at work on a real server."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from schemas.advice import NO_OTHER, Tried, next_try
from schemas.errors import ModelFailed
from schemas.events import Event, GoalSubmitted, GoalUnderstood, RunFinished, RunProgressed
from schemas.inference import Question
from streams.append import Publisher
from streams.asking import NoModels, Route, Router
from streams.connection import Client
from streams.follow import Seen, seen
from streams.keys import Keys
from streams.stage import AnyStage, Policy, Stage
from streams.topology import Topology
from streams.worker import Companion, Terms, Worker

TERMS = Terms(lease=0.6, grace=5.0, model_timeout=10.0)
QUICK = Policy(attempts=3, backoff=0.05, backoff_max=0.1, timeout=5.0)


class To:
    """A router that sends every question to one stream, and knows no other model."""

    def __init__(self, stream: str = "infer.local", model: str = "scripted") -> None:
        self._route = Route(stream, model)

    async def route(self, question: Question[Any], tried: Sequence[Tried]) -> Route:
        if tried and next_try(tried) == "other model":
            raise ModelFailed(NO_OTHER, "There is none beside it.")
        return self._route

    async def serves(self, route: Route) -> bool:
        return route == self._route


def understood(goal: str) -> GoalUnderstood:
    """An event to pass on."""
    return GoalUnderstood(restated=goal, category="simple", kind="general")


class Workshop:
    """Streams of one test: publish goals, look at what came."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client: Any = client  # tests use commands whose types the client leaves open
        self.keys = keys
        self.publisher = Publisher(client, keys)

    async def publish(self, *goals: str) -> list[str]:
        """Publish goals as runs run-0, run-1, ...; their ids."""
        ids = [f"run-{number}" for number in range(len(goals))]
        events = [(run, GoalSubmitted(goal=goal)) for run, goal in zip(ids, goals, strict=True)]
        await self.publisher.publish(events, "intake")
        return ids

    async def entries(self, stream: str, partition: str = "0") -> list[Seen]:
        """All entries of a stream."""
        found: Any = await self.client.xrange(self.keys.stream(partition, stream))
        return [seen(stream, entry_id, fields) for entry_id, fields in found]

    async def bodies(self, stream: str) -> list[Event]:
        """The events of a stream."""
        return [entry.envelope.body for entry in await self.entries(stream) if entry.envelope]

    async def pending(self, stage: AnyStage) -> int:
        """How many entries of a stage are delivered and not settled."""
        summary: Any = await self.client.xpending(self.keys.stream("0", stage.reads), stage.name)
        return int(summary["pending"])

    @asynccontextmanager
    async def working(
        self,
        *stages: AnyStage,
        router: Router | None = None,
        terms: Terms = TERMS,
        companions: Sequence[Companion] = (),
    ) -> AsyncGenerator[Worker]:
        """Inside, a worker runs these stages."""
        worker = Worker(
            [s.name for s in stages],
            self.topology(*stages),
            self.client,
            self.keys,
            router or NoModels(),
            terms,
            companions,
        )
        async with anyio.create_task_group() as tasks:
            await tasks.start(worker.run)
            yield worker
            worker.stop()

    def topology(self, *stages: AnyStage) -> Topology:
        """These stages, fed from intake."""
        out: set[type[Event]] = {RunFinished, RunProgressed}
        accepted = {event for stage in stages for event in stage.accepts}
        out |= {event for stage in stages for event in stage.emits} - accepted
        return Topology(stages, dict.fromkeys(accepted | {GoalSubmitted}, "intake"), frozenset(out))


def intake_stage(
    handle: Callable[[GoalSubmitted, Any], Awaitable[Sequence[Event]]],
    policy: Policy = QUICK,
    emits: tuple[type[Event], ...] = (GoalUnderstood,),
    **more: Any,
) -> AnyStage:
    """A stage that reads goals and says GoalUnderstood."""
    return Stage(
        name="understand",
        reads="intake",
        accepts=(GoalSubmitted,),
        emits=emits,
        handle=handle,
        policy=policy,
        **more,
    )


async def wipe(client: Client, prefix: str) -> None:
    """Remove all keys under a prefix, as servers that lost their data would."""
    for server in await client.masters():
        removal = server.pipeline(transaction=False)
        async for key in server.scan_iter(match=f"{{{prefix}:*", count=1000):
            removal.unlink(key)
        await removal.execute()


async def eventually(holds: Callable[[], Awaitable[object]], within: float = 10.0) -> None:
    """Wait until an async condition is truthy; fail after `within` seconds."""
    with anyio.fail_after(within):
        while not await holds():
            await anyio.sleep(0.01)
