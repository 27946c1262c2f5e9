"""Facts and questions in three languages, and how many of them are found: tests/data/memories.jsonl.

Each fact has the questions that it answers; they say it in other words, as people do who don't know the fact.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from consumers.postgres.memories import BOTH, Memories, Way
from llm.embedding import Bundled, Vector
from schemas.events import MemoryKept

FILE = Path(__file__).parent / "data" / "memories.jsonl"
PROJECT = "office"
AT = datetime(2026, 1, 1, tzinfo=UTC)
WAYS: dict[str, Sequence[Way]] = {"by words": ["words"], "by meaning": ["meaning"], "by both": BOTH}


class Fact(msgspec.Struct, frozen=True):
    """One fact, and what people ask for it."""

    text: str
    asked: tuple[str, ...]


def facts() -> list[Fact]:
    """All of them."""
    return [msgspec.json.decode(line, type=Fact) for line in FILE.read_text(encoding="utf-8").splitlines()]


class Once(Bundled):
    """The bundled embedder, which embeds all facts and questions together and once: several times as fast."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, Vector] = {}

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        if not self._known:
            said = [text for fact in facts() for text in (fact.text, *fact.asked)]
            self._known = dict(zip(said, await super().embed(said), strict=True))
        return [self._known.get(text) or (await super(Once, self).embed([text]))[0] for text in texts]


async def keep_all(memories: Memories) -> None:
    """Keep all facts in a project, by their numbers, with their vectors."""
    for number, fact in enumerate(facts()):
        kept = MemoryKept(project=PROJECT, tag="fact", text=fact.text, source="run:test")
        await memories.keep(str(number), kept, AT)
    await memories.fill()


async def recall_at_5(memories: Memories, ways: Collection[Way]) -> float:
    """The share of questions whose fact is among the first five that are found."""
    asked = [(str(number), question) for number, fact in enumerate(facts()) for question in fact.asked]
    found = 0
    for number, question in asked:
        found += number in {each.id for each in await memories.search(PROJECT, "", question, 5, ways)}
    return found / len(asked)
