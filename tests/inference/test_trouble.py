"""Nodes that hang, engines that break, prompts that are too long: what it costs whoever asks."""

from pathlib import Path
from socket import gethostname
from time import monotonic
from typing import Any

import anyio
import pytest

from llm.mlx import MlxEngine
from llm.mlx_batch import Job
from llm.models import Backend
from llm.ollama_node import Node
from llm.pool import Pool
from schemas.inference import Question
from tests.inference.asking import Room
from tests.llm.fake_ollama import Body, FakeOllama, Reply, fake_ollama, hello, load
from tests.llm.real_ollama import RealOllama, needs_ollama, real_ollama
from tests.workshop import eventually

heavy = pytest.mark.heavy


def say(what: str, system: str = "Answer.", tokens: int = 8) -> Question[str]:
    return Question(system, what, str, tokens)


async def states(room: Room) -> dict[str, str]:
    """The breakers' states by node."""
    return {offer.model.node: offer.state for offer in await room.offers()}


class Asleep:
    """What makes a fake accept everything and answer nothing, until it is woken."""

    def __init__(self, fake: FakeOllama) -> None:
        self._fake, self._awake = fake, anyio.Event()
        plain = dict.fromkeys(("/api/version", "/api/tags", "/api/ps", "/api/show"), fake.listing)
        for path, script in {"load": load, "/api/chat": hello, **plain}.items():
            fake.scripts[path] = self._late(script)

    def _late(self, script: Any) -> Any:
        async def answer(reply: Reply, body: Body) -> None:
            await self._awake.wait()
            await script(reply, body)

        return answer

    def wake(self) -> None:
        self._awake.set()


async def test_a_node_that_hangs_costs_one_time_out_and_is_asked_again_when_it_is_back(room: Room) -> None:
    async with fake_ollama() as one, fake_ollama() as other:
        bad, good = sorted((one, other), key=lambda fake: fake.url)  # of equals, the first by name is asked first
        name = bad.url.removeprefix("http://")
        async with room.asking("ollama", ollama_hosts=f"{one.url},{other.url}", ollama_slots=4, ollama_plain=0.5):
            asleep = Asleep(bad)
            began = monotonic()
            (first,) = await room.ask(say("1"))
            assert 0.5 <= monotonic() - began < 5
            assert (first.answer, len(first.tries)) == ("Hello", 1)

            await room.ask(*(say(str(number)) for number in range(8)))
            assert (len(bad.chats), len(good.chats)) == (0, 9), "it is passed over"

            asleep.wake()

            async def is_back() -> bool:
                return (await states(room))[name] == "closed"

            await eventually(is_back)
            (last,) = await room.ask(say("back?", "A prompt that no node has read yet."))
            assert last.node == name


@heavy
@needs_ollama
async def test_a_real_server_that_hangs_is_passed_over_until_it_is_back(room: Room, ollama_models: Path) -> None:
    with real_ollama(ollama_models) as one, real_ollama(ollama_models) as other:
        bad, good = sorted((one, other), key=lambda server: server.name)
        for server in (bad, good):
            node = Node(server.name)
            await node.load("smol", 1024)
            await node.close()
        async with room.asking(
            "ollama", ollama_hosts=f"{bad.name},{good.name}", ollama_plain=3, ollama_context=1024, ollama_slots=2
        ):
            bad.pause()
            first, second = [(await room.ask(say(what)))[0] for what in ("Hi.", "Hello.")]
            assert first.answer
            assert (first.node, second.node) == (good.name, good.name)
            assert (await states(room))[bad.name] != "closed"
            bad.go_on()

            async def is_back() -> bool:
                return (await states(room))[bad.name] == "closed"

            await eventually(is_back, within=60)


@pytest.mark.parametrize(
    "backend",
    ["local", pytest.param("mlx", marks=heavy), pytest.param("ollama", marks=needs_ollama)],
)
async def test_a_prompt_that_is_too_long_is_a_typed_error_and_never_cut(
    room: Room, backend: Backend, hosts: dict[str, Any]
) -> None:
    settings: dict[str, Any] = {f"{backend}_context": 512, **hosts}
    async with room.asking(backend, **settings):
        # The second is short enough for the router's cautious guess: it is the engine that counts its tokens.
        huge, long = await room.ask(say("word " * 20_000), say("word " * 1_000))
    for said in (huge, long):
        assert said.error
        assert said.error.code == "model.overflow"
        assert not any(record.usage.calls for record in said.tries)


@heavy
@needs_ollama
async def test_a_prompt_that_one_model_has_no_room_for_goes_whole_to_a_larger_one(
    room: Room, ollama: RealOllama
) -> None:
    settings: dict[str, Any] = {"local_context": 512, "ollama_context": 2048, "model_priority": "SmolLM2-135M-Instruct"}
    async with room.asking("local", "ollama", ollama_hosts=ollama.name, **settings):
        short, long = await room.ask(say("Hi."), say("word " * 1_000))
    assert (short.node, len(short.tries)) == (f"local@{gethostname()}", 1)
    refused, answered = long.tries
    assert refused.error
    assert refused.error.code == "model.overflow"
    assert (long.node, answered.usage.tokens_in > 1_000) == (ollama.name, True)


@heavy
async def test_an_engine_that_breaks_is_started_again_and_none_of_its_questions_is_lost(room: Room) -> None:
    async with room.asking("mlx", mlx_slots=2, mlx_context=256) as pools:
        runs = await room.put(*(say(f"Count to {number}.", tokens=8) for number in range(4)))
        await room.begun(runs[0])
        broken = engine_of(pools["mlx"])
        poison: Any = ["no token", "either"]
        batch = broken._batch  # pyright: ignore[reportPrivateUsage] - no request can do this
        batch.submit(Job(poison, 1, None, lambda _: None, lambda _: None))
        said = await room.heard(*runs)
        assert engine_of(pools["mlx"]) is not broken
    for each in said:
        assert each.error is None
        assert [record.error for record in each.tries].count(None) == 1, "answered once"


def engine_of(pool: Pool) -> MlxEngine:
    (place,) = pool._places()  # pyright: ignore[reportPrivateUsage] - nobody else needs to know
    assert isinstance(place.engine, MlxEngine)
    return place.engine
