"""A run that has ended asks nothing more: what is generated for it stops, and its slot is free."""

from time import monotonic
from typing import Any

import pytest

from llm.models import Backend
from schemas.inference import Question
from tests.inference.asking import Room
from tests.llm.real_ollama import RealOllama, needs_ollama
from tests.workshop import eventually

STORY = Question("Tell stories.", "Tell a very long story of many chapters.", str, 2000)
WORD = Question("Tell stories.", "Say a word.", str, 3)
AT_ONCE = 5.0
"""Seconds; what is stopped would take minutes."""


async def end(room: Room, run: str) -> None:
    """What the end of a run does to its keys."""
    await room.client.pexpire(room.keys.run(room.keys.of_run(run), run), 60_000)


@pytest.mark.parametrize(
    "backend",
    ["local", pytest.param("mlx", marks=pytest.mark.heavy), pytest.param("ollama", marks=needs_ollama)],
)
async def test_when_a_run_ends_its_generation_stops_and_the_slot_is_free(
    room: Room, backend: Backend, hosts: dict[str, Any]
) -> None:
    settings: dict[str, Any] = {**hosts, f"{backend}_slots": 1}
    async with room.asking(backend, **settings) as pools:
        (run,) = await room.put(STORY)
        await room.begun(run)
        (offer,) = pools[backend].offers()
        assert offer.in_flight == 1
        await end(room, run)
        began = monotonic()

        async def is_free() -> bool:
            (offer,) = pools[backend].offers()
            return not offer.in_flight

        await eventually(is_free)
        assert monotonic() - began < AT_ONCE
        (next_one,) = await room.ask(WORD)
        assert next_one.answer
        (told,) = await room.heard(run)
        assert told.error
        assert told.error.code == "model.cancelled"


@needs_ollama
async def test_a_server_is_told_to_stop_when_a_run_ends(room: Room, ollama: RealOllama) -> None:
    def ended() -> int:
        return ollama.log.count('POST     "/api/chat"')

    async with room.asking("ollama", ollama_hosts=ollama.name):
        (run,) = await room.put(STORY)
        await room.begun(run)
        before = ended()
        await end(room, run)
        began = monotonic()

        async def has_stopped() -> bool:
            return ended() > before

        await eventually(has_stopped)
        assert monotonic() - began < AT_ONCE
