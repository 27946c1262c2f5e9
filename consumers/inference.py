"""infer.*: inference consumers. Each takes questions from its streams and writes the answers into the runs' journals.

A back end has two streams and two stages, `infer.local` and `infer.local.background`, which share its engines; of what
waits for them, interactive questions go first.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from socket import gethostname
from typing import Any, cast

import anyio
import msgspec
import structlog
from anyio import CancelScope
from anyio.abc import TaskStatus
from msgspec.structs import replace

from consumers.feed import Feed
from consumers.offers import Announcement, Board, stream_of
from llm.engine import Generation, OnText
from llm.models import Backend, Offer
from llm.pool import Hear, Pool
from llm.router import Needs
from schemas.advice import advice
from schemas.errors import ErrorInfo, ModelFailed, NoModelNow, VictoriaError
from schemas.events import Event, InferenceRequested
from schemas.inference import PRIORITIES, Answer
from schemas.plan import Usage
from streams.connection import TROUBLE, Client
from streams.endings import LOOK_EVERY, ended
from streams.journal import Journal, Record
from streams.keys import Keys
from streams.observer import SILENT, Asked, Observer
from streams.stage import Context, Policy, Snooze, Stage

ANNOUNCE_AGAIN = 0.1
"""Seconds at least between two announcements."""
TELL_AGAIN = 0.5
"""Seconds after which an announcement that did not reach the server is repeated."""
BACK_OFF, PATIENCE = 0.5, 10.0
"""Seconds after which a question that no engine can take now is tried again, and in which one must be able to: then
whoever asked looks elsewhere."""

CANCELLED = "model.cancelled"

_log: Any = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Desk:
    """What inference consumers share: the server, and where answers go. `hold` is seconds an announcement holds."""

    client: Client
    keys: Keys
    journal: Journal
    board: Board
    hold: float = 10.0
    observer: Observer = SILENT


class Inference:
    """The consumer of one back end. Its engines' `pool`, for `slots` questions at once, is made when it is first used.

    `warm` are prompts to be read while nobody asks.
    """

    def __init__(self, engine: Backend, slots: int, make_pool: Callable[[], Pool], desk: Desk) -> None:
        self.engine: Backend = engine
        self.warm: Sequence[Generation] = ()
        self._slots, self._make_pool, self._desk = slots, make_pool, desk
        self._at_work: dict[CancelScope, str] = {}

    @cached_property
    def pool(self) -> Pool:
        """The engines."""
        return self._make_pool()

    def offers(self) -> tuple[Offer, ...]:
        """What its engines have, if they were ever used."""
        return self.pool.offers() if "pool" in self.__dict__ else ()

    async def close(self) -> None:
        """Free the engines, if they were ever used."""
        if "pool" in self.__dict__:
            await self.pool.close()

    def stages(self) -> tuple[Stage[InferenceRequested, None], ...]:
        """Its stages: each takes as many questions as the engines have slots."""
        names = [stream_of(self.engine, priority) for priority in PRIORITIES]
        policy = Policy(attempts=5, deliveries=5, timeout=3600, concurrency=self._slots)
        return tuple(
            Stage(
                name=name,
                reads=name,
                accepts=(InferenceRequested,),
                emits=(),
                handle=self.handle,
                policy=policy,
                on_dead=self.given_up,
            )
            for name in names
        )

    async def handle(self, event: InferenceRequested, ctx: Context[None]) -> list[Event]:
        """One question in; its answer goes to the journal, and a hint to whoever waits for it."""
        left = (event.deadline - datetime.now(UTC)).total_seconds()
        if left <= 0 or await self._desk.journal.read(ctx.run_id, event.effect):
            return []  # nobody waits any more, or it was answered before a crash
        with self._desk.observer.asking(self.engine, event, ctx.run_id) as asked:
            said = await self._answered(event, ctx.run_id, left, asked)
            _tell(asked, said, event)
        if isinstance(said, VictoriaError):
            self._wait_for_better(said, ctx)
            await self._record(ctx.run_id, event, said.info, said.usage if isinstance(said, ModelFailed) else None)
        else:
            await self._record(ctx.run_id, event, said)
        return []

    async def given_up(self, event: InferenceRequested | None, error: ErrorInfo, ctx: Context[None]) -> list[Event]:
        """A question that broke what tried to answer it: whoever waits hears so."""
        if event:
            await self._record(ctx.run_id, event, ErrorInfo("model.engine", error.message, error.hint))
        return []

    async def attend(self, consumer: str, *, task_status: TaskStatus[None]) -> None:
        """Keep the engines, and what is known of them, up to date. See streams.worker.Companion."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self.pool.attend, self.warm)
            with suppress(*TROUBLE):
                await self._announce(consumer)
            task_status.started()
            tasks.start_soon(self._watch)
            try:
                await self._keep_announcing(consumer)
            finally:
                with CancelScope(shield=True), anyio.move_on_after(1), suppress(*TROUBLE):
                    await self._desk.board.announce(Announcement(consumer, self.engine), 0)

    async def _keep_announcing(self, consumer: str) -> None:
        changed = self.pool.changed
        while True:
            with anyio.move_on_after(self._desk.hold / 3):
                await changed.wait()
            changed.clear()
            try:
                await self._announce(consumer)
            except TROUBLE as problem:
                _log.warning("inference.not_announced", error=str(problem))
                changed.set()  # again soon: without an announcement this consumer is not asked
                await asyncio.sleep(TELL_AGAIN)
            await asyncio.sleep(ANNOUNCE_AGAIN)

    async def _announce(self, consumer: str) -> None:
        said = Announcement(consumer, self.engine, self.pool.offers(), self.pool.faults())
        await self._desk.board.announce(said, self._desk.hold)

    async def _answered(
        self, event: InferenceRequested, run_id: str, left: float, asked: Asked
    ) -> Answer | VictoriaError | ErrorInfo:
        """What the engines make of a question, within `left` seconds and as long as its run goes on."""
        request = Generation(event.messages, event.max_tokens, left, event.answer_schema)
        needs = Needs.of(event.messages, event.answer_schema, model=event.model)
        with nullcontext() if event.outlives_run else self._while_it_goes_on(run_id):
            async with self._feed(event, run_id) as feed:
                try:
                    hear = _heard(asked, feed.begin) if feed else None
                    return await self.pool.answer(request, needs, event.priority, hear)
                except VictoriaError as problem:
                    return problem
        return ErrorInfo(CANCELLED, "The run ended before its answer came.")

    def _wait_for_better(self, problem: VictoriaError, ctx: Context[None]) -> None:
        """Raise what puts the question back on its stream, if waiting may help."""
        now = isinstance(problem, NoModelNow) or advice(problem.code) == "back off"
        if now and (datetime.now(UTC) - ctx.now()).total_seconds() < PATIENCE:
            raise Snooze(BACK_OFF) from problem
        if problem.retryable and not isinstance(problem, NoModelNow):
            raise problem  # its engine went down, and is started again meanwhile

    async def _record(
        self, run_id: str, event: InferenceRequested, said: Answer | ErrorInfo, cost: Usage | None = None
    ) -> None:
        now = datetime.now(UTC)
        if isinstance(said, Answer):
            text = msgspec.Raw(msgspec.json.encode(said.text))
            usage = self._placed(said.usage)
            record = Record("ask", event.request, now, text, usage=usage, seconds=usage.seconds)
        else:
            usage = self._placed(cost) if cost else Usage(event.model)
            record = Record("ask", event.request, now, error=said, usage=usage, seconds=usage.seconds)
        await self._desk.journal.answer(run_id, event.effect, record, event.reply_to)
        if isinstance(said, ErrorInfo) and said.code == CANCELLED:
            # Should this record have made the journal anew, it must go with its run.
            keys, client = self._desk.keys, self._desk.client
            left = await client.pttl(keys.run(keys.of_run(run_id), run_id))
            if await cast("Any", client).hlen(keys.journal(run_id)) == 1:
                await client.pexpire(keys.journal(run_id), max(1, left), nx=True)

    def _placed(self, usage: Usage) -> Usage:
        return replace(usage, node=usage.node or f"{self.engine}@{gethostname()}")

    @asynccontextmanager
    async def _feed(self, event: InferenceRequested, run_id: str) -> AsyncGenerator[Feed | None]:
        """Where an answer's text goes as it comes. JSON means nothing to anybody before it is whole."""
        if event.answer_schema is not None or event.priority == "background":
            yield None
            return
        feed = Feed(self._desk.client, self._desk.keys, run_id, event.effect, event.step)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed.run)
            yield feed
            await feed.flush()
            tasks.cancel_scope.cancel()

    @contextmanager
    def _while_it_goes_on(self, run_id: str) -> Generator[None]:
        """Inside, work is cancelled when the run ends."""
        with CancelScope() as scope:
            self._at_work[scope] = run_id
            try:
                yield
            finally:
                del self._at_work[scope]

    async def _watch(self) -> None:
        """Stop answering for runs that have ended: their keys have got a time to live."""
        keys, client = self._desk.keys, self._desk.client
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                over = await ended(client, keys, set(self._at_work.values())) if self._at_work else ()
                for scope, run_id in self._at_work.items():
                    if run_id in over:
                        scope.cancel()
            except TROUBLE as problem:
                _log.warning("inference.not_watched", error=str(problem))


def _heard(asked: Asked, begin: Hear) -> Hear:
    """The same, with the observer told of the first piece."""

    def begun() -> OnText:
        on_text = begin()

        def heard(piece: str) -> None:
            asked.first()
            on_text(piece)

        return heard

    return begun


def _tell(asked: Asked, said: Answer | VictoriaError | ErrorInfo, event: InferenceRequested) -> None:
    if isinstance(said, Answer):
        asked.ended(said.usage, text=said.text)
    else:
        cost = said.usage if isinstance(said, ModelFailed) else None
        asked.ended(cost or Usage(event.model), said.code)
