"""infer.*: inference consumers. Each takes questions from its stream and writes the answers into the runs' journals."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from llm.engine import Engine, Generation
from schemas.errors import VictoriaError
from schemas.events import Event, InferenceRequested
from schemas.inference import Answer
from streams.journal import Journal, Record
from streams.outcome import described
from streams.stage import Context, Policy, Stage

_log: Any = structlog.get_logger()

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
            answer = await self._answer(Generation(event.messages, event.max_tokens, left, event.answer_schema))
        except Exception as problem:
            # Whatever an engine raises is its answer: a stage waits for it, and has rules to fall back to.
            if not isinstance(problem, VictoriaError):
                _log.warning("inference.failed", run=ctx.run_id, effect=event.effect, exc_info=problem)
            record = Record("ask", event.request, datetime.now(UTC), error=described(problem))
        else:
            text, usage = msgspec.Raw(msgspec.json.encode(answer.text)), answer.usage
            record = Record("ask", event.request, datetime.now(UTC), text, usage=usage, seconds=usage.seconds)
        await self._journal.answer(ctx.run_id, event.effect, record, event.reply_to)
        return []

    async def _answer(self, request: Generation) -> Answer:
        """The engine's answer; one that broke in a way nobody foresaw is asked once more."""
        engine = await self._engine()
        try:
            return await engine.generate(request)
        except VictoriaError:
            raise
        except Exception as problem:
            _log.warning("inference.engine_broke", exc_info=problem)
            return await engine.generate(request)


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
