"""What an inference tier costs: the same questions to an engine directly, and through the streams.

Answers go all the way: question on the stream, inference consumer, journal, hint, asking handler.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import anyio
import msgspec

from consumers import understand
from consumers.experts.roster import Folders
from consumers.experts.staff import colleagues
from consumers.inference import Desk, Inference
from consumers.offers import Board, OfferRouter
from consumers.strategies import decomposer
from consumers.strategies.strategy import Brief
from consumers.tools.registry import BUILT_IN
from llm.engine import Engine, Generation
from llm.models import Wish
from llm.pool import Pool
from llm.sources import Ready
from schemas.errors import VictoriaError
from schemas.events import Event, InferenceRequested
from schemas.inference import Answer, Question
from schemas.plan import Usage
from streams.asking import Asker, Asking, asking
from streams.bench import Progress, own_keys
from streams.connection import Client
from streams.journal import Journal
from streams.keys import Keys
from streams.stage import Stage
from streams.topology import Topology
from streams.worker import Terms, Worker

CONCURRENT = 4
"""Questions at once, for tokens a second."""
FIXED = 0.1
"""Seconds that an answer of the back end takes by which scaling is measured."""
TIMEOUT = 300.0
PLANETS, COLOURS = ("Mars", "Venus", "Io", "Titan"), ("blue", "green", "red", "yellow", "black")
GOALS = [f"Why is the sky of {planet} {colour}?" for planet in PLANETS for colour in COLOURS]


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured: rounds of the engine alone and of the tier in turn, questions in each, tokens of an answer
    at most; answers for the latency; like goals; numbers of consumers, and questions for each of them."""

    rounds: int = 3
    questions: int = 12
    tokens: int = 48
    latencies: int = 300
    goals: int = len(GOALS)
    consumers: tuple[int, ...] = (1, 2, 4, 8, 16)
    each: int = 30


ALL, QUICK = Extent(), Extent(1, 4, 8, 20, 3, (1, 2), 3)


class InferFigures(msgspec.Struct, frozen=True):
    """`tokens_per_s` are those of answers, through the streams, `raw_tokens_per_s` the engine's alone, 4 at once each;
    `share_of_raw` is the median of the rounds' ratios. `added_p50_ms` is what the streams add to an answer.
    `cached_share` is the part of prompts that the engine had read before, over 20 like goals, and
    `cached_share_two_stages` the same while two stages ask at once. `scaling` has for a number of consumers its
    throughput over that of one, divided by the number."""

    tokens_per_s: float
    raw_tokens_per_s: float
    share_of_raw: float
    added_p50_ms: float
    cached_share: float
    cached_share_two_stages: float
    scaling: dict[str, float]
    model: str
    questions: int


class Fixed:
    """A back end that runs no model: each answer takes the same time."""

    name, model, context, slots = "local", "fixed", 1 << 20, 1

    def __init__(self, seconds: float, slots: int = 1) -> None:
        self.slots, self._seconds = slots, seconds

    async def generate(self, request: Generation, on_text: Callable[[str], None] | None = None) -> Answer:
        """The same answer each time."""
        began = perf_counter()
        if self._seconds:
            await asyncio.sleep(self._seconds)
        return Answer("Yes.", Usage(self.model, 1, 1, 1, perf_counter() - began))

    async def close(self) -> None:
        """Nothing is open."""


async def infer(client: Client, prefix: str, engine: Engine, progress: Progress, extent: Extent = ALL) -> InferFigures:
    """Measure it all, on keys of its own. Raises redis errors, and VictoriaError where an answer fails."""
    async with own_keys(client, prefix) as keys:
        raw, through, shares = await _throughput(client, keys, engine, progress, extent)
        alone, together = await _cached(engine, progress, extent)
    return InferFigures(
        tokens_per_s=through,
        raw_tokens_per_s=raw,
        share_of_raw=shares,
        added_p50_ms=await _added(client, prefix, progress, extent),
        cached_share=alone,
        cached_share_two_stages=together,
        scaling=await _scaling(client, prefix, progress, extent),
        model=engine.model,
        questions=extent.rounds * extent.questions,
    )


@asynccontextmanager
async def _tier(client: Client, keys: Keys, engines: Sequence[Engine]) -> AsyncGenerator["_Ask"]:
    """Inside, each engine has an inference consumer of its own, and questions can be asked."""
    board, journal = Board(client, keys), Journal(client, keys)
    async with anyio.create_task_group() as tasks:
        workers: list[Worker] = []
        for engine in engines:
            desk = Desk(client, keys, journal, board)
            inference = Inference("local", engine.slots, _pool_of(engine), desk)
            stages: tuple[Stage[InferenceRequested, None], ...] = inference.stages()
            topology = Topology(stages, {}, frozenset[type[Event]]())
            router = OfferRouter(board, Wish(), ())
            names = [stage.name for stage in stages]
            workers.append(Worker(names, topology, client, keys, router, Terms(), [inference.attend]))
            await tasks.start(workers[-1].run)
        async with asking(client, keys, OfferRouter(board, Wish(), ()), TIMEOUT, TIMEOUT) as asker:
            yield _Ask(asker)
        for worker in workers:
            worker.stop()


def _pool_of(engine: Engine) -> Callable[[], Pool]:
    return lambda: Pool([Ready("local", engine)])


class _Ask:
    """Asks through the tier; each question is one that was never asked."""

    def __init__(self, asker: Asker) -> None:
        self._asker, self._number = asker, 0

    async def __call__(self, question: Question[Any]) -> Usage:
        """What an answer cost. Raises VictoriaError."""
        self._number += 1
        run_id = f"bench-{self._number}"
        answer, usage = await self._asker.ask(Asking(run_id, run_id, "user"), "ask", question)
        if isinstance(answer, VictoriaError) and answer.code != "model.invalid":
            raise answer
        return usage


async def _throughput(
    client: Client, keys: Keys, engine: Engine, progress: Progress, extent: Extent
) -> tuple[float, float, float]:
    """Tokens a second of the engine alone and of the tier, and the median of their ratios."""
    numbers = range(extent.questions)
    questions = [Question("Tell a short story.", f"About number {n}.", str, extent.tokens) for n in numbers]

    async def alone(question: Question[Any]) -> Usage:
        request = Generation(question.messages, question.max_tokens, TIMEOUT, question.schema)
        return (await engine.generate(request)).usage

    raw: list[float] = []
    through: list[float] = []
    async with _tier(client, keys, [engine]) as ask:
        await _rate(alone, questions)  # reads the prompts, so that no round has to
        for number in range(extent.rounds):
            progress("rounds with and without the streams", number, extent.rounds)
            raw.append(await _rate(alone, questions))
            through.append(await _rate(ask, questions))
    return median(raw), median(through), median(t / r for t, r in zip(through, raw, strict=True))


async def _rate(ask: Callable[[Question[Any]], Awaitable[Usage]], questions: Sequence[Question[Any]]) -> float:
    """Tokens of answers a second, CONCURRENT questions at once."""
    waiting, tokens, began = list(questions), 0, perf_counter()

    async def one_after_the_other() -> None:
        nonlocal tokens
        while waiting:
            tokens += (await ask(waiting.pop())).tokens_out

    async with anyio.create_task_group() as tasks:
        for _ in range(CONCURRENT):
            tasks.start_soon(one_after_the_other)
    return tokens / (perf_counter() - began)


async def _added(client: Client, prefix: str, progress: Progress, extent: Extent) -> float:
    """Milliseconds that the streams add to an answer, the median of one at a time."""
    added: list[float] = []
    question: Question[Any] = Question("Say yes.", "Now.", str)
    async with own_keys(client, prefix) as keys, _tier(client, keys, [Fixed(0.0)]) as ask:
        for number in range(extent.latencies):
            progress("latencies", number, extent.latencies)
            began = perf_counter()
            usage = await ask(question)
            added.append(perf_counter() - began - usage.seconds)
    return 1000 * median(added)


async def _cached(engine: Engine, progress: Progress, extent: Extent) -> tuple[float, float]:
    """The part of prompts that needed no reading: of one stage's questions, and of two stages' at once."""
    tools, staff = BUILT_IN.described, colleagues(Folders().roster())
    goals = GOALS[: extent.goals]

    def understanding(goal: str) -> Question[Any]:
        return understand.PROMPT.question(understand.Understanding, max_tokens=8, goal=goal, history="")

    def decomposition(goal: str) -> Question[Any]:
        return decomposer.question(Brief(goal, "complex", tools=tools), staff)

    async def share(kinds: Sequence[Callable[[str], Question[Any]]]) -> float:
        total = Usage()

        async def read(question: Question[Any]) -> None:
            nonlocal total
            usage = (await engine.generate(Generation(question.messages, 1, TIMEOUT))).usage
            total += usage

        for number, goal in enumerate(goals):
            progress("like goals", number, len(goals))
            async with anyio.create_task_group() as at_once:
                for kind in kinds:
                    at_once.start_soon(read, kind(goal))
        return total.cached / total.tokens_in

    await share([understanding, decomposition])
    return await share([understanding]), await share([understanding, decomposition])


async def _scaling(client: Client, prefix: str, progress: Progress, extent: Extent) -> dict[str, float]:
    """How throughput grows with consumers of a back end that takes a fixed time."""
    rates: dict[int, float] = {}
    question: Question[Any] = Question("Say yes.", "Now.", str)
    for number in extent.consumers:
        progress("consumers", number, extent.consumers[-1])
        async with own_keys(client, prefix) as keys, _tier(client, keys, [Fixed(FIXED) for _ in range(number)]) as ask:
            left, began = number * extent.each, perf_counter()

            async def ask_on() -> None:
                nonlocal left
                while left > 0:
                    left -= 1
                    await ask(question)

            async with anyio.create_task_group() as tasks:
                for _ in range(2 * number):  # so that one is always waiting for each
                    tasks.start_soon(ask_on)
            rates[number] = number * extent.each / (perf_counter() - began)
    return {str(number): rate / rates[1] / number for number, rate in rates.items()}
