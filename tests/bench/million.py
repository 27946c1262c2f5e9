"""Very many memories, whose vectors lie as those of texts do, and which of them are truly nearest to a question.

Texts are made of halves of the facts, and embedded; many memories then vary each, in the directions in which texts
differ from each other. Their other words are such that the n-th most frequent one is in 1/n as many as the first.
"""

import random
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import anyio
import numpy as np

from consumers.postgres.database import Database
from llm.embedding import Embedder
from tests.memories import facts

TEXTS, VARIED = 40_000, 0.5
"""How many are embedded; and how much of the difference of two others is at most added to one."""
AT_ONCE = 20_000
WORDS, VOCABULARY = 6, 200_000
LONG = 7_200.0
"""Seconds that a statement may take."""
LARGE, MIDDLE, SMALL = "large", "mid00", "sml01"
"""Projects: nine of ten memories are in the large one; of the others a third in one, and the rest in 20 small ones."""

BARE = """
ALTER TABLE vectors_1 DROP CONSTRAINT vectors_1_memory_fkey, DROP CONSTRAINT vectors_1_pkey;
ALTER TABLE vectors_1 SET UNLOGGED; ALTER TABLE memories SET UNLOGGED; ALTER TABLE memory_words SET UNLOGGED;
DROP INDEX vectors_1_of, memories_by_word, memories_of_session;
CREATE UNLOGGED TABLE told (n int, project text, said text);
"""
KEPT = """
INSERT INTO memories
SELECT to_char(n, 'fm00000000'), project, '', now() - n * interval '1 second', 'fact', said, 'model', 'run:bench',
    words_of(project, said)
FROM told WHERE n % 2 = $1
"""
COUNTED = "INSERT INTO memory_words SELECT word, count(*) FROM memories, unnest(words) AS word GROUP BY word"
BY_WORD = "CREATE INDEX memories_by_word ON memories USING gin (words) WITH (fastupdate = off)"
OF_SESSION = "CREATE INDEX memories_of_session ON memories (project, session, at, id)"
OF_PROJECT = "CREATE INDEX vectors_1_of ON vectors_1 (project, session)"
EACH = "ALTER TABLE vectors_1 ADD PRIMARY KEY (memory)"
COLUMNS = ("memory", "project", "session", "embedding")


def zipf(chance: random.Random) -> str:
    """Some words, few of them frequent."""
    return " ".join(f"w{int(VOCABULARY ** chance.random())}" for _ in range(WORDS))


def project_of(n: int) -> str:
    """Where the n-th memory is; all names are equally long."""
    if n % 10:
        return LARGE
    return MIDDLE if n // 10 % 3 == 0 else f"sml{n // 10 % 20:02}"


def texts(chance: random.Random, many: int) -> list[str]:
    """As many sentences, each of two halves of facts of one language."""
    words = [fact.text.split() for fact in facts()]
    spaced = [each for each in words if len(each) > 2]
    latin = [each for each in spaced if "".join(each).isascii()]
    others = [each for each in spaced if not "".join(each).isascii()]
    solid = [fact.text for fact, each in zip(facts(), words, strict=True) if len(each) <= 2]
    made: list[str] = []
    while len(made) < many:
        kind = chance.random()
        if kind < 0.2 and solid:
            one, other = chance.choices(solid, k=2)
            made.append(one[: len(one) // 2] + other[len(other) // 2 :])
        else:
            one, other = chance.choices(latin if kind < 0.6 else others, k=2)
            made.append(" ".join(one[: len(one) // 2] + other[len(other) // 2 :]))
    return made


async def fill(database: Database, embedder: Embedder, many: int) -> None:
    """Put very many memories into the tables of a database that has none, past the stage that keeps them."""
    chance = random.Random(1)
    said = texts(chance, min(TEXTS, many))
    parts = [said[at : at + 1000] for at in range(0, len(said), 1000)]
    found = [vector for part in parts for vector in await embedder.embed(part)]
    vectors = np.asarray(found, dtype=np.float32)
    async with database.connection() as connection:
        await connection.fetchval("SELECT vectors_of($1, $2)", embedder.name, vectors.shape[1])
        await connection.execute(BARE)
        told = ((n, project_of(n), f"{said[n % len(said)]} {zipf(chance)}") for n in range(many))
        await connection.copy_records_to_table("told", records=told, timeout=LONG)
        rows = _copied(vectors, many)
        await connection.copy_to_table("vectors_1", source=rows, format="binary", columns=COLUMNS, timeout=LONG)
    for pair in (
        ((KEPT, 0), (KEPT, 1)),
        ((BY_WORD,), (OF_SESSION,)),
        ((COUNTED,), (EACH,)),
        (("ANALYZE vectors_1",), (OF_PROJECT,)),
        (("SELECT index_vectors(1)",), ("VACUUM ANALYZE memories",)),
        (("VACUUM ANALYZE vectors_1",), ("VACUUM ANALYZE memory_words",)),
    ):
        async with anyio.create_task_group() as at_once:  # as there are two processors
            for statement in pair:
                at_once.start_soon(partial(_done, database, *statement))


async def _done(database: Database, text: str, *given: Any) -> None:
    async with database.connection() as connection:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute("SET maintenance_work_mem = '2GB'")
        await connection.execute(text, *given, timeout=LONG)


async def _copied(vectors: Any, many: int) -> AsyncIterator[bytes]:
    """Rows of vectors_1 as PostgreSQL reads them in its binary form, all of one size."""
    chance, width = np.random.default_rng(1), vectors.shape[1]
    row = np.dtype(
        [
            *(("fields", ">i2"), ("l1", ">i4"), ("memory", "S8"), ("l2", ">i4"), ("project", "S5"), ("l3", ">i4")),
            *(("l4", ">i4"), ("width", ">i2"), ("none", ">i2"), ("embedding", ">u2", (width,))),
        ]
    )
    yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
    for start in range(0, many, AT_ONCE):
        numbers = np.arange(start, min(start + AT_ONCE, many))
        one, other = (chance.integers(0, len(vectors), len(numbers)) for _ in range(2))
        much = chance.uniform(0, VARIED, (len(numbers), 1)).astype(np.float32)
        made = vectors[numbers % len(vectors)] + much * (vectors[one] - vectors[other])
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        rows = np.zeros(len(numbers), row)
        rows["fields"], rows["l1"], rows["l2"], rows["l3"], rows["l4"] = 4, 8, 5, 0, 4 + 2 * width
        rows["memory"] = [f"{n:08}".encode() for n in numbers]
        rows["project"] = [project_of(n).encode() for n in numbers.tolist()]
        rows["width"], rows["embedding"] = width, made.astype(np.float16).view(np.uint16)
        yield rows.tobytes()
    yield b"\xff\xff"
