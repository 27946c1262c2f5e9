"""What is recalled of facts in three languages, and how soon it is among a million memories.

The million is made on the server: vectors are sums of those of real facts and of noise, texts are words as frequent as
words are (the n-th one 1/n as often as the first). Most of it is one large project, the rest small ones.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

import anyio

from consumers.postgres.database import Database
from consumers.postgres.migrate import migrate
from tests.bench.report import Promise, Section
from tests.databases import database_server

LARGE, SMALL = "large", "small"
HOUR = 3600
VOCABULARY = 200_000
WORDS = 10
NOISE = 1_000
"""Vectors of noise; each generated one has two of them."""


def recall(quick: bool) -> Section:
    """Recall@5, and how long it takes."""
    many, asked = (20_000, 10) if quick else (1_000_000, 200)
    section = Section("recall", "Recall from the collective memory", ("what", "figure", "how"))
    with TemporaryDirectory() as folder, database_server(Path(folder)) as url:
        anyio.run(_measure, url, section, many, asked)
    return section


async def _measure(url: str, section: Section, many: int, asked: int) -> None:
    found = await _on(url, "facts", _recalled)
    for name, share in found.items():
        section.add(f"recall@5, {name}", f"{share:.2f}", "100 questions about 200 facts, in three languages")
    times = await _on(url, "many", lambda database: _timed(database, many, asked))
    for name, seconds in times.items():
        p95 = quantiles(seconds, n=20)[-1]
        section.add(
            name, f"{1000 * p95:.1f} ms", f"95 of 100; half within {1000 * sorted(seconds)[len(seconds) // 2]:.1f} ms"
        )
        section.promise(Promise.at_most(f"ms: {name}", 1000 * p95, 50))
    both = found["by both"]
    section.promise(
        Promise.at_least("recall@5 by both", both, 0.8),
        Promise.at_least("times the better of both", both / max(found["by words"], found["by meaning"]), 1.0),
    )


async def _on(url: str, prefix: str, work: Callable[[Database], Awaitable[dict[str, object]]]) -> dict[str, object]:
    database = Database(url, prefix)
    await migrate(database)
    try:
        return await work(database)
    finally:
        await database.close()
