"""What a stage gets for a question is of the question's type, or it hears that there is no answer. Both are counted."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from llm.engine import Generation, OnText
from llm.local import LocalEngine
from llm.models import Backend
from schemas.advice import INVALID
from schemas.inference import Answer
from streams.journal import Record
from tests.inference.asking import Room, Said
from tests.inference.questions import questions
from tests.llm.real_ollama import needs_ollama

Note = Callable[[str, str], None]

COUNT = 3
heavy = pytest.mark.heavy
EACH = [
    pytest.param("local", 2, id="local"),
    pytest.param("local", 200, id="local-200", marks=heavy),
    pytest.param("ollama", 200, id="ollama-200", marks=[heavy, needs_ollama]),
    pytest.param("mlx", 12, id="mlx", marks=heavy),
]


def accounted(said: Sequence[Said]) -> Counter[str]:
    """How the answers came about. Whatever was accepted is of its question's type, and what was not was not usable."""
    ways: Counter[str] = Counter()
    for each in said:
        *before, last = each.tries
        assert not any(is_valid(each, record) for record in before), "what is usable is not asked for again"
        if each.error is None:
            assert is_valid(each, last)
            ways["repaired" if before else "accepted at once"] += 1
        else:
            assert each.error.code in (INVALID, "model.cut"), each.error
            assert not is_valid(each, last)
            ways["fell back"] += 1
    return ways


def is_valid(said: Said, record: Record) -> bool:
    if record.error:
        return False
    try:
        said.question.parse(msgspec.json.decode(record.result, type=str))
    except msgspec.DecodeError:
        return False
    return True


def summary(ways: Counter[str]) -> str:
    return ", ".join(f"{count} {way}" for way, count in ways.most_common())


@pytest.mark.parametrize(("backend", "count"), EACH)
async def test_every_answer_that_is_accepted_is_of_its_questions_type(
    room: Room, backend: Backend, count: int, hosts: dict[str, Any], record_property: Note
) -> None:
    async with room.asking(backend, seconds=1200, **hosts):
        said = await room.ask(*questions(count), within=1200)
    ways = accounted(said)
    record_property(f"{count} answers of {backend}", summary(ways))
    assert ways["accepted at once"] > count / 2, "engines hold their models to a schema"


class Heedless(LocalEngine):
    """Lets schemas pass unheeded, as some engines of Ollama's do."""

    def heeds(self, request: Generation) -> bool:
        return False

    async def generate(self, request: Generation, on_text: OnText | None = None) -> Answer:
        return await super().generate(request if self.heeds(request) else replace(request, schema=None), on_text)


class Learning(Heedless):
    """Heeds a schema once it was told what was wrong."""

    def heeds(self, request: Generation) -> bool:
        return "<rejected>" in request.messages[1].content


@pytest.mark.heavy
@pytest.mark.parametrize(("kind", "way"), [(Learning, "repaired"), (Heedless, "fell back")])
async def test_answers_of_an_engine_that_heeds_no_schema_are_repaired_or_done_without(
    room: Room, model_file: Path, kind: type[LocalEngine], way: str, record_property: Note
) -> None:
    engine = await kind.load(model_file, slots=4, context=1024)
    async with room.asking("local", engine=engine):
        said = await room.ask(*questions(COUNT, max_tokens=40))
    await engine.close()
    ways = accounted(said)
    record_property(f"{COUNT} answers of an engine that is {kind.__name__}", summary(ways))
    assert ways[way] >= 1
    assert all(len(each.tries) <= 3 for each in said)
