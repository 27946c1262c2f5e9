"""What is recalled of facts in three languages, and how soon it is among a million memories.

The million is made on the server, see recall.sql: their vectors are sums of those of real facts and of noise. Questions
are those about the facts, each with some words of the million's.
"""

import random
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from time import perf_counter

import anyio

from consumers.postgres.database import Database
from consumers.postgres.memories import Memories
from consumers.postgres.migrate import migrate
from llm.embedding import Bundled
from tests.bench.report import Promise, Section
from tests.databases import database_server
from tests.memories import WAYS, Once, facts, keep_all, recall_at_5

LONG = 7_200.0
"""Seconds that making the index may take."""
BARE = """
SET statement_timeout = 0; SET maintenance_work_mem = '1500MB'; SET synchronous_commit = off;
ALTER TABLE vectors_1 DROP CONSTRAINT vectors_1_memory_fkey, DROP CONSTRAINT vectors_1_pkey;
DROP INDEX vectors_1_near, vectors_1_of, memories_by_word, memories_of_session;
CREATE TEMP TABLE fact (n int PRIMARY KEY, v halfvec(512));
CREATE TEMP TABLE noise (n int PRIMARY KEY, v halfvec(512));
INSERT INTO noise SELECT n, array_agg((random() - 0.5) * 0.12)::vector::halfvec
FROM generate_series(0, 999) AS n, generate_series(1, 512) GROUP BY n;
"""
FACT = "INSERT INTO fact VALUES ($1, $2::text::halfvec)"
FILLED = """
INSERT INTO memory_words SELECT word, count(*) FROM memories, unnest(words) AS word GROUP BY word;
INSERT INTO vectors_1 SELECT id, project, session, fact.v + one.v + other.v
FROM (SELECT *, random() AS a, random() AS b, random() AS c FROM memories) AS kept
    JOIN fact ON fact.n = floor(a * 200) JOIN noise AS one ON one.n = floor(b * 1000)
    JOIN noise AS other ON other.n = floor(c * 1000);
CREATE INDEX memories_by_word ON memories USING gin (words) WITH (fastupdate = off);
CREATE INDEX memories_of_session ON memories (project, session, at, id);
ALTER TABLE vectors_1 ADD PRIMARY KEY (memory);
CREATE INDEX vectors_1_of ON vectors_1 (project, session);
CREATE INDEX vectors_1_near ON vectors_1 USING hnsw ((binary_quantize(embedding)::bit(512)) bit_hamming_ops);
ANALYZE memories; ANALYZE vectors_1; ANALYZE memory_words;
"""


def recall(quick: bool) -> Section:
    """Recall@5, and how long it takes."""
    many, asked = (2_000, 20) if quick else (1_000_000, 400)
    section = Section("recall", "Recall from the collective memory", ("what", "figure", "how"))
    with TemporaryDirectory() as folder, database_server(Path(folder)) as url:
        anyio.run(_measure, url, section, many, asked)
    return section


async def _measure(url: str, section: Section, many: int, asked: int) -> None:
    shares = await _shares(url)
    for name, share in shares.items():
        section.add(f"recall@5 {name}", f"{share:.2f}", "100 questions about 200 facts, in three languages")
    section.promise(
        Promise.at_least("recall@5 by both", shares["by both"], 0.8),
        Promise.at_least("of the better of both", shares["by both"] / max(shares.values()), 1.0),
    )
    for project, found in (await _times(url, many, asked)).items():
        half, most = 1000 * quantiles(found, n=20)[9], 1000 * quantiles(found, n=20)[18]
        section.add(f"{project} project", f"{most:.1f} ms", f"95 of 100 goals; half within {half:.1f} ms")
        section.promise(Promise.at_most(f"ms in a {project} project of {many:,} memories", most, 50))


async def _shares(url: str) -> dict[str, float]:
    """How many questions find their fact, by each way."""
    database, embedder = Database(url, "facts"), Once()
    await migrate(database)
    memories = Memories(database, lambda: embedder)
    await keep_all(memories)
    found = {name: await recall_at_5(memories, ways) for name, ways in WAYS.items()}
    await database.close()
    return found


async def _times(url: str, many: int, asked: int) -> dict[str, list[float]]:
    """Seconds of each question, embedding it included, to the large project and to a small one."""
    database, embedder = Database(url, "many"), Bundled()
    await migrate(database)
    vectors = await embedder.embed([fact.text for fact in facts()])
    async with database.connection() as connection:
        await connection.fetchval("SELECT vectors_of($1, $2)", embedder.name, len(vectors[0]))
        await connection.execute(BARE)
        await connection.executemany(FACT, [(n, str(vector)) for n, vector in enumerate(vectors)])
        await connection.execute(Path(__file__).with_suffix(".sql").read_text(), many, timeout=LONG)
        await connection.execute(FILLED, timeout=LONG)
    memories, chance = Memories(database, lambda: embedder), random.Random(1)
    questions = [question for fact in facts() for question in fact.asked]
    found: dict[str, list[float]] = {}
    for name, project in (("large", "large"), ("small", "small3")):
        found[name] = []
        for number in range(asked + 20):
            words = " ".join(f"w{int(200_000 ** chance.random())}" for _ in range(6))
            started = perf_counter()
            await memories.search(project, "", f"{questions[number % 100]} {words}")
            if number >= 20:  # what is read often is in memory
                found[name].append(perf_counter() - started)
    await database.close()
    return found
