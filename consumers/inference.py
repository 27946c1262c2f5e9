"""infer.*: inference consumers. Each takes questions from its stream and writes the answers into the runs' journals."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import msgspec

from llm.engine import Engine, Generation
from schemas.errors import VictoriaError
from schemas.events import Event, InferenceRequested
from streams.journal import Journal, Record
from streams.stage import Context, Policy, Stage

Engines = Callable[[], Awaitable[Engine]]
"""Gives the engine, loaded on first use."""


class InferenceConsumer:
    """Answers questions with one engine."""

    def __init__(self, engine: Engines, journal: Journal) -> None:
        self._engine, self._journal = engine, journal

    async def handle(self, event: InferenceRequested, ctx: Context[None]) -> list[Event]:
        """One question in; its answer goes to the journal, and a hint to whoever waits for it."""
        left = (event.deadline - datetime.now(UTC)).total_seconds()
        if left <= 0 or await self._journal.read(ctx.run_id, event.effect):
            return []  # nobody waits any more, or it was answered before a crash
        try:
            engine = await self._engine()
            answer = await engine.generate(Generation(event.messages, event.max_tokens, left, event.answer_schema))
            record = Record(
                "ask",
                event.request,
                datetime.now(UTC),
                msgspec.Raw(msgspec.json.encode(answer.text)),
                usage=answer.usage,
                seconds=answer.usage.seconds,
            )
        except VictoriaError as problem:
            record = Record("ask", event.request, datetime.now(UTC), error=problem.info)
        await self._journal.answer(ctx.run_id, event.effect, record, event.reply_to)
        return []


def stage(engine_name: str, slots: int, engine: Engines, journal: Journal) -> Stage[InferenceRequested, None]:
    """The inference stage of one kind of engine, with as many requests at once as the engine has slots."""
    name = f"infer.{engine_name}"
    return Stage(
        name=name,
        reads=name,
        accepts=(InferenceRequested,),
        emits=(),
        handle=InferenceConsumer(engine, journal).handle,
        policy=Policy(timeout=3600, concurrency=slots),
    )
