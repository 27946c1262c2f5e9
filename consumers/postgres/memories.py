"""Memories on PostgreSQL: what runs left for later ones, found by words and by meaning.

Words are looked for in one index, vectors in a table for each embedder; one ranking is made of both. Neither reads more
than a bounded part, however much there is: words only the rare ones, vectors all of a small project and session, and of
a large one those of some of an index's lists, which have nearly all that are nearest.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import datetime
from math import inf
from typing import Any, Literal

import anyio
import msgspec
import structlog
from anyio.abc import TaskStatus

from consumers.memory import ASLEEP, MOST, NOWHERE, TEXT, Memory, fused, searchable
from consumers.postgres.database import Connection, Database, key
from consumers.postgres.migrate import LONGEST
from consumers.postgres.queries import query
from llm.embedding import Embedder, Vector
from schemas.errors import ModelFailed, NotReachable, VictoriaError
from schemas.events import MemoryKept

Way = Literal["words", "meaning"]
BOTH: tuple[Way, ...] = ("words", "meaning")

CANDIDATES = 40
"""Of each ranking, what goes into the common one."""
COMMON = 1_000
"""Memories that the words that are looked for may be in together."""
FEW = 5_000
"""Vectors that are all compared; where there are more, the index is asked."""
INDEXED = 4_000
"""Dimensions of a vector that the index has."""
WITHIN, REST = 0.5, 10.0
"""Seconds that a run waits for what is recalled, half of them for its embedder; and in which none is recalled after it
was not."""
LOOK, AT_ONCE = 60.0, 32
"""Seconds between looks for memories that have no vector; how many get theirs at once."""

_log: Any = structlog.get_logger()


class Memories:
    """All memories of an installation. `embedder` gives the one there is now, None for none: then words alone count.

    `resolved` is a project's own name. Of more than `few` vectors not all are compared. All but `recall` raise
    NotReachable while the server is away.
    """

    def __init__(
        self,
        database: Database,
        embedder: Callable[[], Embedder | None] = lambda: None,
        resolved: Callable[[str], str] = str,
        few: int = FEW,
    ) -> None:
        self._database, self._embedder, self._resolved, self._few = database, embedder, resolved, few
        self._tables: dict[tuple[str, int], str | None] = {}
        self.patience = WITHIN
        """Seconds that a run waits for what is recalled."""
        self._rests_until = 0.0
        self._behind = anyio.Event()

    async def keep(self, memory_id: str, kept: MemoryKept, at: datetime) -> bool:
        """Keep a memory; False where there is one of that id already. It gets its vector later, see `fill`."""
        text = kept.text[:TEXT].replace("\0", "\ufffd")
        async with self._database.connection() as connection:
            new: bool = await connection.fetchval(
                query("keep_memory"),
                *(memory_id, key(self._resolved(kept.project)), key(kept.session), at, _plain(kept.tag), text),
                *(kept.trust, _plain(kept.source), searchable(text)),
            )
        if new:
            self._behind.set()
        return new

    async def recall(self, project: str, session: str, said: str) -> tuple[Memory, ...]:
        """See consumers.memory.Recall: nothing while the server is away, or takes longer than a run would wait."""
        now = anyio.current_time()
        if now < self._rests_until:
            return ()
        problem = "too slow"
        with anyio.move_on_after(self.patience):
            try:
                return tuple(await self.search(project, session, said, embed_within=self.patience / 2))
            except VictoriaError as cause:
                if cause.code in (ASLEEP, NOWHERE):
                    return ()  # known at once, and no trouble
                problem = str(cause)
        _log.warning("memory.not_recalled", error=problem)
        self._rests_until = anyio.current_time() + REST
        return ()

    async def search(
        self,
        project: str,
        session: str,
        said: str,
        most: int = MOST,
        ways: Collection[Way] = BOTH,
        embed_within: float = inf,
    ) -> list[Memory]:
        """The memories of a project, and of a session in it, that are nearest to what is said, the nearest first: by
        words alone where the embedder takes longer than `embed_within` seconds."""
        project, session = key(self._resolved(project)), key(session)
        embedder = self._embedder() if "meaning" in ways else None
        rankings: dict[Way, list[str]] = {way: [] for way in BOTH}
        problems: list[VictoriaError] = []

        async def by_words() -> list[str]:
            async with self._database.connection() as connection:
                rows = await connection.fetch(
                    query("recall_by_words"), project, session, searchable(said), CANDIDATES, COMMON
                )
            return [row["id"] for row in rows]

        async def by_meaning() -> list[str]:
            vector = await _embedded(embedder, said, embed_within)
            return await self.nearest(embedder, vector, project, session) if embedder and vector else []

        async def rank(way: Way, ranked: Callable[[], Awaitable[list[str]]]) -> None:
            try:
                rankings[way] = await ranked()
            except VictoriaError as problem:
                problems.append(problem)
                at_once.cancel_scope.cancel()

        async with anyio.create_task_group() as at_once:
            if "words" in ways:
                at_once.start_soon(rank, "words", by_words)
            if embedder:
                at_once.start_soon(rank, "meaning", by_meaning)
        if problems:
            raise problems[0]
        ids = fused(*rankings.values())[:most]
        async with self._database.connection() as connection:
            found = {each.id: each for each in _memories(await connection.fetch(query("read_memories"), ids))}
        return [found[each] for each in ids if each in found]

    async def listed(self, project: str, session: str | None = None, most: int = 20) -> list[Memory]:
        """The newest memories of a project: of all its sessions, or of one and those that are in none."""
        async with self._database.connection() as connection:
            return _memories(
                await connection.fetch(
                    query("list_memories"), key(self._resolved(project)), session is None, key(session or ""), most
                )
            )

    async def forget(self, memory_id: str) -> bool:
        """Remove a memory; whether there was one of that id."""
        async with self._database.connection() as connection:
            return await connection.fetchval(query("forget_memory"), memory_id)

    async def fill(self) -> int:
        """Give a vector of the embedder there is now to all memories without one; how many got theirs. The index is
        made anew where these made it too small.

        Raises ModelFailed.
        """
        done, after, known = 0, "", None
        while embedder := self._embedder():
            (probe,) = await embedder.embed(["."])
            async with self._database.connection() as connection:
                table = await self._table(connection, embedder, probe)
                if not table:
                    break
                text = query("memories_without_vector").format(vectors=table)
                rows = await connection.fetch(text, after, AT_ONCE)
            if not rows:
                break
            vectors, known = await embedder.embed([row["text"] for row in rows]), (embedder.name, len(probe))
            async with self._database.connection() as connection:
                await connection.executemany(
                    query("keep_vector").format(vectors=table),
                    [(row["id"], _literal(vector)) for row, vector in zip(rows, vectors, strict=True)],
                )
            done, after = done + len(rows), rows[-1]["id"]
        if known:
            await self._index(*known)
        return done

    async def attend(self, consumer: str, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Give vectors to what has none, from the start, and whenever something is kept. See streams.worker.Companion;
        `consumer` does not matter, since any number may do this at once."""
        del consumer
        task_status.started()
        while True:
            self._behind = anyio.Event()
            try:
                await self.fill()
            except (NotReachable, ModelFailed) as problem:
                if problem.code not in (ASLEEP, NOWHERE):
                    _log.warning("memory.without_vector", error=str(problem))
                await anyio.sleep(REST)
            with anyio.move_on_after(LOOK):
                await self._behind.wait()

    async def _index(self, embedder: str, width: int) -> None:
        async with self._database.connection() as connection:
            await connection.execute("SET statement_timeout = 0")  # the pool undoes it
            if await connection.fetchval(query("index_vectors"), embedder, width, timeout=LONGEST):
                _log.info("memory.indexed", embedder=embedder)

    async def nearest(self, embedder: Embedder, vector: Vector, project: str, session: str) -> list[str]:
        """The ids of those whose vectors are nearest, of the project's own and of the session's. `project` and
        `session` are as tables have them."""
        found: list[tuple[float, str]] = []
        asked, width = _literal(vector), min(len(vector), INDEXED)
        async with self._database.transaction() as connection:
            table = await self._table(connection, embedder, vector)
            for scope in {"", session} if table else ():
                many = await connection.fetchval(
                    query("count_vectors").format(vectors=table), project, scope, self._few + 1
                )
                text = query("recall_near" if many > self._few else "recall_nearest")
                if many > self._few:
                    await connection.fetch(query("recall_settings"))
                rows = await connection.fetch(
                    text.format(vectors=table, width=width, part=_part(vector)), project, scope, asked, CANDIDATES
                )
                found += [(row["distance"], row["memory"]) for row in rows]
        return [memory for _, memory in sorted(found)[:CANDIDATES]]

    async def _table(self, connection: Connection, embedder: Embedder, vector: Vector) -> str | None:
        """The name of the embedder's table, None where the server can have none."""
        known = (embedder.name, len(vector))
        if known not in self._tables:
            self._tables[known] = await connection.fetchval(query("vectors_of"), *known)
        return self._tables[known]


async def _embedded(embedder: Embedder | None, said: str, within: float) -> Vector | None:
    if embedder is None or not said.strip():
        return None
    problem = "too slow"
    with anyio.move_on_after(within):
        try:
            return (await embedder.embed([said]))[0]
        except ModelFailed as cause:
            problem = str(cause)
    _log.warning("memory.by_words_alone", error=problem)
    return None


def _part(vector: Vector) -> str:
    """What is in the index, as migration 0006 has it."""
    return "embedding" if len(vector) <= INDEXED else f"(subvector(embedding, 1, {INDEXED})::halfvec({INDEXED}))"


def _literal(vector: Sequence[float]) -> str:
    return "[{}]".format(",".join(f"{value:.5g}" for value in vector))


def _memories(rows: Iterable[Any]) -> list[Memory]:
    return [msgspec.convert(dict(row), Memory) for row in rows]


def _plain(text: str) -> str:
    return text[:400].replace("\0", "\ufffd")
