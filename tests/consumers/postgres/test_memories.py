"""Memories are kept once, found by words and by meaning, and only where they belong."""

from collections.abc import Sequence
from hashlib import blake2b

import anyio
import pytest
from msgspec.structs import replace

from consumers.postgres.database import Database
from consumers.postgres.memories import AT_ONCE, Memories
from llm.embedding import Embedder, Vector
from schemas.errors import ModelFailed, NotReachable
from schemas.events import MemoryKept
from tests.memories import AT, PROJECT, WAYS, Once, facts, keep_all, recall_at_5
from tests.workshop import eventually

HOSTILE = ("'; DROP TABLE memories; --", "%", "\\", "a\0b", "ё" * 5_000, "<->!&|:*", "(((", "🦊" * 50, "\ud7ff\u202e")


class Hashing:
    """Vectors by words: the same for the same words, whatever they mean."""

    def __init__(self, name: str = "hashing", width: int = 16) -> None:
        self.name, self._width, self.failing = name, width, False

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        if self.failing:
            raise ModelFailed("model.unreachable", "It is away.")
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> Vector:
        vector = [0.001] * self._width
        for word in text.casefold().split():
            vector[int.from_bytes(blake2b(word.encode(), digest_size=4).digest()) % self._width] += 1
        return vector


def kept(text: str, project: str = "shop", session: str = "", **more: str) -> MemoryKept:
    return replace(MemoryKept(text=text, project=project, session=session, source="run:1", trust="model"), **more)


async def texts(memories: Memories, said: str, project: str = "shop", session: str = "") -> list[str]:
    return [each.text for each in await memories.search(project, session, said)]


async def test_a_project_and_its_sessions_see_their_own(database: Database) -> None:
    embedder = Hashing()
    memories = Memories(database, lambda: embedder)
    for number, (project, session) in enumerate((("shop", ""), ("shop", "a"), ("shop", "b"), ("garden", ""))):
        await memories.keep(str(number), kept(f"tulips {project} {session}", project, session), AT)
    await memories.fill()
    assert sorted(await texts(memories, "tulips")) == ["tulips shop "]
    assert sorted(await texts(memories, "tulips", session="a")) == ["tulips shop ", "tulips shop a"]
    assert await texts(memories, "tulips", "garden", "a") == ["tulips garden "]
    assert len(await memories.listed("shop")) == 3
    assert [each.session for each in await memories.listed("shop", "b")] == ["", "b"]
    (found,) = await memories.search("garden", "", "tulips")
    assert (found.trust, found.source, found.at) == ("model", "run:1", AT)


async def test_kept_twice_or_forgotten_it_counts_once_or_not(database: Database) -> None:
    embedder = Hashing()
    memories = Memories(database, lambda: embedder)
    async with anyio.create_task_group() as at_once:
        for _ in range(5):
            at_once.start_soon(memories.keep, "m", kept("The gate opens at nine"), AT)
    assert not await memories.keep("m", kept("something else"), AT)
    assert await memories.fill() == 1
    assert await memories.fill() == 0
    assert await texts(memories, "When does the gate open?") == ["The gate opens at nine"]
    assert await memories.forget("m")
    assert not await memories.forget("m")
    assert await texts(memories, "When does the gate open?") == []
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT max(memories) FROM memory_words") == 0


@pytest.mark.parametrize("text", HOSTILE)
async def test_any_text_can_be_kept_and_looked_for(database: Database, text: str) -> None:
    embedder = Hashing()
    memories = Memories(database, lambda: embedder)
    await memories.keep("m", kept(f"nuts {text}", text, text, tag=text, source=text), AT)
    await memories.fill()
    (found,) = await memories.search(text, text, f"nuts {text}")
    assert found.text.startswith("nuts")
    assert await memories.search(text, text, "") == []


async def test_vectors_of_different_embedders_never_meet(database: Database) -> None:
    one, other = Hashing("one"), Hashing("other", 24)
    present: list[Embedder | None] = [one]
    memories = Memories(database, lambda: present[0])
    await memories.keep("a", kept("kept by one"), AT)
    await memories.fill()
    present[0] = other
    assert await texts(memories, "one") == ["kept by one"], "its words are still there"
    assert await memories.fill() == 1
    present[0] = None
    assert await texts(memories, "one") == ["kept by one"]
    assert await memories.fill() == 0


async def test_without_an_answer_of_the_embedder_words_are_enough(database: Database) -> None:
    embedder = Hashing()
    memories = Memories(database, lambda: embedder)
    await memories.keep("a", kept("The gate opens at nine"), AT)
    embedder.failing = True
    assert await texts(memories, "the gate") == ["The gate opens at nine"]
    with pytest.raises(ModelFailed):
        await memories.fill()


async def test_what_is_kept_gets_its_vector_in_the_background(database: Database) -> None:
    embedder = Hashing()
    memories = Memories(database, lambda: embedder)
    async with anyio.create_task_group() as beside:
        await beside.start(memories.attend, "worker-1")
        for number in range(AT_ONCE + 1):
            await memories.keep(f"m{number}", kept(f"fact {number}"), AT)

        async def all_have_one() -> bool:
            async with database.connection() as connection:
                return await connection.fetchval("SELECT count(*) FROM vectors_1") == AT_ONCE + 1

        await eventually(all_have_one)
        beside.cancel_scope.cancel()


async def test_without_pgvector_words_are_enough(database: Database) -> None:
    embedder = Hashing()
    memories = Memories(database, lambda: embedder)
    async with database.connection() as connection:
        await connection.execute(
            "CREATE OR REPLACE FUNCTION vectors_of(embedder text, width int) RETURNS text LANGUAGE sql AS 'SELECT NULL'"
        )
    await memories.keep("a", kept("The gate opens at nine"), AT)
    assert await memories.fill() == 0
    assert await texts(memories, "the gate") == ["The gate opens at nine"]


async def test_a_run_is_not_held_up_by_a_database_that_is_away(database_url: str) -> None:
    for url in ("postgresql://u:secret@127.0.0.1:1/x", database_url):
        away = Database(url, "nobody migrated this")
        memories = Memories(away)
        assert await memories.recall("shop", "", "tulips") == ()
        with pytest.raises(NotReachable):
            await memories.keep("a", kept("x"), AT)
        await away.close()


async def test_by_words_and_by_meaning_more_is_found_than_by_either(database: Database) -> None:
    """The promise: of 100 questions about 200 facts in English, Russian and Chinese, at least 80 find theirs."""
    embedder = Once()
    memories = Memories(database, lambda: embedder)
    assert (len(facts()), sum(len(fact.asked) for fact in facts())) == (200, 100)
    await keep_all(memories)
    words, meaning, both = [await recall_at_5(memories, ways) for ways in WAYS.values()]
    assert both >= 0.8
    assert both > words
    assert both > meaning


async def test_a_large_project_is_searched_by_an_index_that_is_made_when_there_is_enough(database: Database) -> None:
    embedder = Hashing()
    memories = Memories(database, lambda: embedder, few=50)
    await memories.keep("m", kept("the gate opens at nine in summer", PROJECT), AT)
    await memories.fill()
    asked = "gate opens in summer at nine"
    assert await found_by_meaning(memories, asked) == ["m"]
    async with database.transaction() as connection:
        await connection.execute(NOISE, PROJECT, MANY)
        await connection.execute(VECTORS, PROJECT, MANY)
    assert (await found_by_meaning(memories, asked))[0] == "m", "there is no index yet"
    await memories.keep("late", kept("the gate opens at nine in summer", PROJECT), AT)
    await memories.fill()
    async with database.transaction() as connection:
        assert await connection.fetchval("SELECT to_regclass('vectors_1_near') IS NOT NULL")
        assert not await connection.fetchval("SELECT index_vectors(1)"), "it is made anew for twice as many"
    assert {"m", "late"} <= {*await found_by_meaning(memories, asked)}


async def found_by_meaning(memories: Memories, asked: str) -> list[str]:
    return [each.id for each in await memories.search(PROJECT, "", asked, ways=["meaning"])]


MANY = 10_500
"""Vectors of which there is an index."""
NOISE = """
INSERT INTO memories
SELECT 'n' || n, $1, '', now(), '', 'noise', 'user', '', '{}' FROM generate_series(1, $2::int) AS n
"""
VECTORS = """
INSERT INTO vectors_1
SELECT 'n' || n, $1, '', array_agg(random() - 0.5)::vector::halfvec
FROM generate_series(1, $2::int) AS n, generate_series(1, 16) GROUP BY n
"""
