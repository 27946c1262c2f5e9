"""What is recalled of facts in three languages, and how soon and how truly it is among a million memories.

Questions to the million are those about the facts, each with some words of the million's. How truly: which share of the
vectors that are really the nearest is among those that the index finds.
"""

import os
import random
from pathlib import Path
from statistics import fmean, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import NamedTuple

import anyio

from consumers.postgres.database import Database
from consumers.postgres.memories import Memories
from consumers.postgres.migrate import migrate
from llm.embedding import Bundled
from tests.bench.million import LARGE, MIDDLE, SMALL, TEXTS, fill, zipf
from tests.bench.report import Promise, Section
from tests.databases import database_server
from tests.memories import WAYS, Once, facts, keep_all, recall_at_5


class Found(NamedTuple):
    """Seconds that each question to a project took; of processors, the mean one; and the share of the nearest found."""

    took: list[float]
    here: float
    at_server: float
    true: float


def recall(quick: bool) -> Section:
    """Recall@5, and how long it takes."""
    many, asked = (12_000, 20) if quick else (1_000_000, 400)
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
    database, embedder = Database(url, "many"), Bundled()
    await migrate(database)
    started = perf_counter()
    await fill(database, embedder, many)
    section.add(
        f"{many:,} memories filled in",
        f"{perf_counter() - started:.0f} s",
        f"{min(TEXTS, many):,} of them embedded, the others varied",
    )
    for name, project in (("large", LARGE), ("middle-sized", MIDDLE), ("small", SMALL)):
        found = await ask(database, embedder, project, asked)
        half, most = 1000 * quantiles(found.took, n=20)[9], 1000 * quantiles(found.took, n=20)[18]
        section.add(f"{name} project", f"{most:.1f} ms", f"95 of 100 goals; half within {half:.1f} ms")
        spent = f"{1000 * found.at_server:.1f} ms of the server's processor, {1000 * found.here:.1f} ms here"
        section.add(f"{name} project, a goal", spent, "embedding included")
        section.add(f"{name} project, nearest", f"{found.true:.3f}", "of the 40 truly nearest vectors are found")
        if project != MIDDLE:  # the index holds all projects: what has a small share of much is found less well
            section.promise(
                Promise.at_most(f"ms in a {name} project among {many:,} memories", most, 50),
                Promise.at_least(f"of the nearest found in a {name} project", found.true, 0.9),
            )
    await database.close()


async def _shares(url: str) -> dict[str, float]:
    """How many questions find their fact, by each way."""
    database, embedder = Database(url, "facts"), Once()
    await migrate(database)
    memories = Memories(database, lambda: embedder)
    await keep_all(memories)
    found = {name: await recall_at_5(memories, ways) for name, ways in WAYS.items()}
    await database.close()
    return found


async def ask(database: Database, embedder: Bundled, project: str, asked: int) -> Found:
    """Ask a project of what `fill` has made so many questions."""
    memories, all_compared = Memories(database, lambda: embedder), Memories(database, few=10**9)
    chance = random.Random(2)
    questions = [question for fact in facts() for question in fact.asked]
    goals = [f"{questions[number % len(questions)]} {zipf(chance)}" for number in range(asked + 20)]
    for goal in goals[-20:]:  # so that what is read often is in memory
        await memories.search(project, "", goal)
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = 'victoria'")
    server = [row["pid"] for row in rows]
    took, here, there = list[float](), process_time(), _spent(server)
    for goal in goals[:asked]:
        started = perf_counter()
        await memories.search(project, "", goal)
        took.append(perf_counter() - started)
    here, there = process_time() - here, _spent(server) - there
    shares: list[float] = []
    for question in questions[:: 5 if asked >= 100 else 20]:
        (vector,) = await embedder.embed([question])
        nearest = {*await all_compared.nearest(embedder, vector, project, "")}
        shares.append(len(nearest & {*await memories.nearest(embedder, vector, project, "")}) / len(nearest))
    return Found(took, here / asked, there / asked, fmean(shares))


def _spent(processes: list[int]) -> float:
    """Seconds of processors that processes have used, where the system tells; else 0."""
    ticks = 0
    for pid in processes:
        stat = Path(f"/proc/{pid}/stat")
        ticks += sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13])) if stat.exists() else 0
    return ticks / os.sysconf("SC_CLK_TCK")
