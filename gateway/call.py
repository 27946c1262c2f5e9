"""One question through the inference tier, as a run of its own that leaves nothing behind."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager, nullcontext, suppress
from time import monotonic
from typing import Any, NamedTuple

import anyio

from consumers.offers import backend_of
from deploy.victoria import Victoria
from gateway.serve import served
from llm.router import UNUSABLE
from schemas.advice import TRIES
from schemas.errors import CouldNotStart, EffectFailed, NotReachable, VictoriaError
from schemas.events import AnswerProgressed
from schemas.inference import Question
from schemas.plan import Usage
from streams.append import new_run_id
from streams.asking import Asker, Asking, Deferral, asking
from streams.connection import TROUBLE
from streams.follow import follow
from streams.journal import Journal
from streams.keys import Keys

PATIENCE = 10.0
"""Seconds in which there must be a model that can take the question."""
NAME = "ask"


class Called(NamedTuple):
    """An answer, what it cost in `tries`, and how many seconds it took, tries and waiting included."""

    answer: Any
    usage: Usage
    tries: int
    seconds: float


async def call(
    victoria: Victoria,
    question: Question[Any],
    hear: Callable[[AnswerProgressed], None] | None,
    wait: Callable[[str], None],
    *,
    serving: bool = True,
    patience: float = PATIENCE,
) -> Called:
    """Ask, with this process's own inference consumers where nobody else serves them, unless it is not `serving`. For
    `patience` seconds there may be no model yet.

    `hear` is told the answer's text as it comes, `wait` what is waited for. Raises ModelFailed and its like with what
    the last try failed with; CouldNotStart, NotReachable.
    """
    run_id, called = f"ask-{new_run_id()}", None
    async with _swept(victoria, run_id), served(victoria, only=backend_of) if serving else nullcontext():
        try:
            await victoria.require_model()
            wait("asking")
            client, keys, within = victoria.client, victoria.keys, victoria.settings.model_timeout
            async with (
                asking(client, keys, victoria.router, within, patience) as asker,
                anyio.create_task_group() as beside,
            ):
                if hear:
                    beside.start_soon(_follow, victoria, run_id, hear)
                began = monotonic()
                answer, usage = await _answered(asker, run_id, question, wait)
                called = Called(answer, usage, len(await Journal(client, keys).everything(run_id)), monotonic() - began)
                beside.cancel_scope.cancel()
        finally:
            if called is None or called.tries > 1:
                await _end(victoria, run_id)
    assert called  # noqa: S101 - for the type checker: whatever keeps it from being so was raised
    if isinstance(called.answer, EffectFailed):
        raise _typed(called.answer)
    return called


async def _answered(
    asker: Asker, run_id: str, question: Question[Any], wait: Callable[[str], None]
) -> tuple[Any, Usage]:
    while True:
        try:
            return await asker.ask(Asking(run_id, run_id, "user"), NAME, question)
        except Deferral as later:
            wait(later.problem.message)
            await anyio.sleep(later.delay)


def _typed(failed: EffectFailed) -> VictoriaError:
    """With the exit code that fits."""
    if failed.code == "model.unreachable":
        return NotReachable(failed.code, failed.message, failed.hint)
    return CouldNotStart(failed.code, failed.message, failed.hint) if failed.code in UNUSABLE else failed


async def _follow(victoria: Victoria, run_id: str, hear: Callable[[AnswerProgressed], None]) -> None:
    with suppress(*TROUBLE):  # who waits for the answer hears of it
        async with aclosing(follow(victoria.client, {victoria.keys.feed(run_id): "0-0"})) as batches:
            async for batch in batches:
                for seen in batch:
                    if seen.envelope and isinstance(seen.envelope.body, AnswerProgressed):
                        hear(seen.envelope.body)


async def _end(victoria: Victoria, run_id: str) -> None:
    """Say that nobody waits any more: a consumer that still answers stops, and what it may yet write goes by itself."""
    run, seconds = victoria.keys.run(victoria.keys.of_run(run_id), run_id), int(victoria.settings.model_timeout) + 60
    with anyio.CancelScope(shield=True), anyio.move_on_after(1), suppress(*TROUBLE):
        pipeline: Any = victoria.client.pipeline(transaction=False)
        pipeline.hset(run, "ended", "1")
        pipeline.expire(run, seconds)
        await pipeline.execute()


@asynccontextmanager
async def _swept(victoria: Victoria, run_id: str) -> AsyncGenerator[None]:
    """Inside, keys of this run come to be; they are removed afterwards."""
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(1), suppress(*TROUBLE):
            for key in _keys(victoria.keys, run_id):
                await victoria.client.unlink(key)


def _keys(keys: Keys, run_id: str) -> list[str]:
    names = [NAME, *(f"{NAME}.{number}" for number in range(2, TRIES + 1))]
    asked = [keys.asked(f"{run_id}/{name}") for name in names]
    return [keys.journal(run_id), keys.feed(run_id), keys.waiting(run_id), *asked]
