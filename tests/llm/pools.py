"""What tests of the pool share: sources and engines that answer, hang, are away, or wait for a sign."""
# Who waits, and what was shut out, is nobody else's business:
# pyright: reportPrivateUsage=false

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel

from llm.engine import Engine, Generation, OnText
from llm.models import Model
from llm.pool import Pool
from llm.router import Needs
from llm.scripted import Reply, ScriptedEngine
from schemas.errors import ModelFailed
from schemas.inference import Answer, ChatMessage
from tests.workshop import eventually

AWAY = ModelFailed("model.unreachable", "It is away.", "Start it.")
ANY = Needs()


def asked(text: str = "Hello?", timeout: float = 5.0) -> Generation:
    return Generation((ChatMessage("user", text),), 20, timeout)


class Scripted:
    """A fake source for tests: it has the models and engines that the test gives it.

    `models` is what it says it has, or the error it says instead. `engine` makes an engine for a model, or raises.
    """

    def __init__(
        self, node: str, engine: Callable[[str], Engine], *models: str, slots: int = 2, context: int = 4096
    ) -> None:
        self.node, self.slots, self.context = node, slots, context
        self.has: list[str] | Exception = list(models) or ["m"]
        self.engine, self.opened, self.scans, self.closed = engine, list[str](), 0, False

    async def models(self) -> Sequence[Model]:
        self.scans += 1
        await anyio.lowlevel.checkpoint()
        if isinstance(self.has, Exception):
            raise self.has
        return [Model("ollama", self.node, name, 0, self.context) for name in self.has]

    async def open(self, model: str) -> Engine:
        self.opened.append(model)
        await anyio.lowlevel.checkpoint()
        return self.engine(model)

    async def close(self) -> None:
        self.closed = True


class Saying(Scripted):
    """A source with one engine, `speaker`, that says `replies`, and its node's name for ever after."""

    def __init__(self, node: str, replies: Sequence[Reply], models: Sequence[str], slots: int, delay: float) -> None:
        super().__init__(node, lambda _model: self.speaker, *models, slots=slots)
        left = list(replies)
        self.speaker = ScriptedEngine(lambda _request: left.pop(0) if left else node, slots=slots, delay=delay)

    async def open(self, model: str) -> Engine:
        self.speaker.closed = False
        return await super().open(model)


def saying(node: str, *replies: Reply, slots: int = 2, delay: float = 0.0, models: Sequence[str] = ("m",)) -> Saying:
    return Saying(node, replies, models, slots, delay)


class Hanging(ScriptedEngine):
    """Takes questions and answers none until `well`; each costs a time-out of its own, as an Ollama's limits do."""

    def __init__(self, own_limit: float) -> None:
        super().__init__(lambda _request: "awake")
        self.own_limit, self.well = own_limit, False

    async def generate(self, request: Generation, on_text: OnText | None = None) -> Answer:
        if not self.well:
            self.requests.append(request)
            await anyio.sleep(min(self.own_limit, request.timeout))
            raise ModelFailed("model.timeout", "No first word came.", "See what else it does.")
        return await super().generate(request, on_text)


class Down(ScriptedEngine):
    """Counts how often it is closed."""

    closes = 0

    async def close(self) -> None:
        self.closes += 1
        await super().close()


class Gated(ScriptedEngine):
    """Answers when the test lets it; knows how many it works on, and in which order they came."""

    def __init__(self, slots: int = 1) -> None:
        super().__init__([], slots=slots)
        self.gate, self.now, self.most, self.order = anyio.Event(), 0, 0, list[str]()

    async def generate(self, request: Generation, on_text: OnText | None = None) -> Answer:
        text = request.messages[-1].content
        self.order.append(text)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.gate.wait()
            await anyio.sleep(0.001)
        finally:
            self.now -= 1
        return await ScriptedEngine([text]).generate(request, on_text)


@asynccontextmanager
async def attended(*sources: Scripted, **more: Any) -> AsyncGenerator[Pool]:
    """Inside, a pool of these sources is attended to."""
    warm = more.pop("warm", ())
    made = Pool(sources, **more)
    async with anyio.create_task_group() as tasks:
        await tasks.start(made.attend, warm)
        yield made
        tasks.cancel_scope.cancel()
    await made.close()


def states(pool: Pool) -> dict[str, str]:
    return {offer.model.node: offer.state for offer in pool.offers()}


async def until(holds: Callable[[], object], within: float = 5.0) -> None:
    async def now() -> object:
        return holds()

    await eventually(now, within)


def look(pool: Pool) -> None:
    """Have the first source scanned now."""
    pool._sites[0].rescan.set()


def shut(pool: Pool, source: int) -> None:
    """Have a source's model m left alone."""
    pool._sites[source].places["m"].breaker.failed(AWAY.info, monotonic(), at_once=True)


def waiting(pool: Pool) -> int:
    """How many questions wait for a slot."""
    return len(pool._waiters)
