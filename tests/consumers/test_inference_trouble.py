"""An inference consumer stays at work through its engines' and the server's bad days, and no question is lost."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import msgspec
import pytest
from redis.exceptions import ConnectionError as Disconnected

from consumers import inference
from consumers.inference import Desk, Inference
from consumers.offers import Announcement, Board
from llm import breaker, pool
from llm.engine import Engine, Generation
from llm.mlx_batch import EngineDown
from llm.models import Model
from llm.pool import Pool
from llm.scripted import Reply, ScriptedEngine
from schemas.envelope import Envelope, encode
from schemas.errors import ModelFailed
from schemas.events import Event, InferenceRequested
from schemas.inference import ChatMessage, Priority
from streams.journal import Journal, Record
from streams.keys import INFERENCE
from tests.workshop import Workshop, eventually

BUSY = ModelFailed("model.busy", "All slots are taken.", "Ask a little later.")
DOWN = EngineDown("model.engine", "It broke down.", "")


class Source:
    """A source with one model, whose engine says what its script says; opened anew, it goes on there."""

    node = ""

    def __init__(self, script: Callable[[Generation], Reply], slots: int = 2) -> None:
        self.slots, self.script, self.opened = slots, script, 0
        self.has: Sequence[str] | Exception = ["scripted"]

    async def models(self) -> Sequence[Model]:
        if isinstance(self.has, Exception):
            raise self.has
        return [Model("local", "", name, 0, 4096) for name in self.has]

    async def open(self, model: str) -> Engine:
        self.opened += 1
        return ScriptedEngine(self.script, slots=self.slots)

    async def close(self) -> None:
        pass


class ShakyBoard(Board):
    """A board on a server that is away for some announcements."""

    away = 0

    async def announce(self, said: Announcement, seconds: float) -> None:
        if self.away:
            self.away -= 1
            raise Disconnected("It is away.")
        await super().announce(said, seconds)


class Shop:
    """One consumer at work."""

    def __init__(self, workshop: Workshop, source: Source) -> None:
        client, keys = workshop.client, workshop.keys
        self.workshop, self.board = workshop, ShakyBoard(client, keys)
        self.journal = Journal(client, keys)
        desk = Desk(client, keys, self.journal, self.board, hold=30.0)
        self.consumer = Inference("local", source.slots, lambda: Pool([source]), desk)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator["Shop"]:
        async with self.workshop.working(*self.consumer.stages(), companions=[self.consumer.attend]):
            yield self
        await self.consumer.close()

    async def put(self, name: str, priority: Priority = "interactive") -> None:
        event = InferenceRequested(
            effect=name,
            request="r",
            messages=(ChatMessage("user", name),),
            max_tokens=9,
            reply_to="nobody",
            deadline=datetime.now(UTC) + timedelta(seconds=30),
            priority=priority,
        )
        envelope = Envelope[Event](id=name, run="run-1", v=1, at=datetime.now(UTC), trust="user", body=event)
        stream = "infer.local" + (".background" if priority == "background" else "")
        fields = {"type": "InferenceRequested", "event": encode(envelope)}
        await self.workshop.client.xadd(self.workshop.keys.stream(INFERENCE, stream), fields)

    async def answer(self, name: str) -> str:
        """Wait for a record; its text, or its error's code."""
        found: list[Record] = []

        async def there() -> bool:
            found.extend(filter(None, [await self.journal.read("run-1", name)]))
            return bool(found)

        await eventually(there)
        error = found[0].error
        return error.code if error else msgspec.json.decode(found[0].result)


def first(*replies: Reply) -> Callable[[Generation], Reply]:
    """These to questions, then an echo; an echo to trials as well."""
    left = list(replies)

    def script(request: Generation) -> Reply:
        if request.max_tokens == 1 or not left:
            return request.messages[-1].content
        return left.pop(0)

    return script


def _is(look: Callable[[], Awaitable[object]], wanted: object) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return await look() == wanted

    return holds


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    monkeypatch.setattr(inference, "BACK_OFF", 0.05)
    monkeypatch.setattr(inference, "TELL_AGAIN", 0.05)
    monkeypatch.setattr(breaker, "REST", 0.05)


async def test_a_busy_engine_gets_the_question_again_a_little_later(workshop: Workshop) -> None:
    async with Shop(workshop, Source(first(BUSY, BUSY, BUSY))).open() as shop:
        await shop.put("q")
        assert await shop.answer("q") == "q"
    assert await workshop.entries("dead", INFERENCE) == []


async def test_one_that_stays_busy_is_told_to_whoever_asked_who_then_looks_elsewhere(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "PATIENCE", 0.3)
    async with Shop(workshop, Source(lambda _request: BUSY)).open() as shop:
        await shop.put("q")
        assert await shop.answer("q") == "model.busy"


async def test_questions_in_an_engine_that_goes_down_are_answered_by_the_next_one(workshop: Workshop) -> None:
    source = Source(first(DOWN, DOWN))
    async with Shop(workshop, source).open() as shop:
        await shop.put("a")
        await shop.put("b")
        assert [await shop.answer("a"), await shop.answer("b")] == ["a", "b"]
    assert source.opened >= 2
    assert await workshop.entries("dead", INFERENCE) == []


async def test_a_model_that_is_away_for_a_moment_is_waited_for(workshop: Workshop) -> None:
    source = Source(first(ModelFailed("model.missing", "No such model.", "")))
    async with Shop(workshop, source).open() as shop:
        await shop.put("q")
        assert await shop.answer("q") in ("q", "model.missing")
        await shop.put("r")
        assert await shop.answer("r") == "r"


async def test_interactive_questions_overtake_background_ones_on_their_way_through_the_streams(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "YIELD", 0.5)  # the machine may be slow
    gate, order = anyio.Event(), list[str]()

    class Gated(ScriptedEngine):
        async def generate(self, request: Generation, on_text: Any = None) -> Any:
            order.append(request.messages[-1].content)
            await gate.wait()
            return await super().generate(request, on_text)

    source = Source(lambda request: request.messages[-1].content, slots=1)

    async def opened(_model: str) -> Engine:
        return Gated(source.script, slots=1)

    source.open = opened  # type: ignore[method-assign]
    async with Shop(workshop, source).open() as shop:
        for number in range(3):
            await shop.put(f"background {number}", "background")

        async def begun() -> int:
            return len(order)

        await eventually(_is(begun, 1))
        for number in range(3):
            await shop.put(f"interactive {number}")

        async def waiting() -> int:
            summary = await workshop.client.xpending(workshop.keys.stream(INFERENCE, "infer.local"), "infer.local")
            return summary["pending"]

        await eventually(_is(waiting, 1))
        gate.set()
        for name in ("interactive 2", "background 2"):
            assert await shop.answer(name) == name
    assert order[0].startswith("background")
    assert order[1] == "interactive 0"
    assert order.index("interactive 2") < order.index("background 2")


async def test_announcements_are_repeated_soon_when_the_server_was_away(workshop: Workshop) -> None:
    shop = Shop(workshop, Source(first()))
    shop.board.away = 4  # hold is 30 s: the regular repetition would come too late for this test

    async def offered() -> int:
        return len(await shop.board.offers(fresh=True))

    async with shop.open():
        await eventually(_is(offered, 1), within=5)
        await shop.put("q")
        assert await shop.answer("q") == "q"
        shop.board.away = 2
    assert await shop.board.announcements(fresh=True) != ()  # it could not be withdrawn, and nothing broke


async def test_who_stops_offers_nothing_any_more(workshop: Workshop) -> None:
    shop = Shop(workshop, Source(first()))
    async with shop.open():
        assert len(await shop.board.offers(fresh=True)) == 1
    assert await shop.board.announcements(fresh=True) == ()


@pytest.mark.parametrize("problem", [RuntimeError("a bug"), OSError(24, "Too many open files")], ids=repr)
async def test_a_source_with_a_bug_costs_an_announced_fault_and_not_the_worker(
    workshop: Workshop, problem: Exception
) -> None:
    source = Source(first())
    source.has = problem
    async with Shop(workshop, source).open() as shop:

        async def faults() -> list[str]:
            return [f.error.code for said in await shop.board.announcements(fresh=True) for f in said.faults]

        await eventually(_is(faults, ["model.engine"]))
