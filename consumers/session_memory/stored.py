"""Sessions' memories on the server: for each project that a session is about, a few items, at no moment over a limit.

The end of a turn leaves a note that its exchange is to be considered, and what that adds is written in one step with
the removal of the note. So an exchange that comes twice changes nothing, and of a cleared session nothing comes back.
"""

from typing import Any, cast

import msgspec
import structlog

from consumers.session_memory.items import Items, decoded, encoded, joined, size, trimmed
from schemas.errors import NotReachable
from streams.connection import Client
from streams.keys import Keys
from streams.scripts import Scripts

LIMIT = 4_000
"""Bytes of a session's memory of a project."""
ROUNDS = 20
"""Writes in vain, since others wrote meanwhile, after which a stage tries again later."""

_log: Any = structlog.get_logger()


class ProjectMemory(msgspec.Struct, frozen=True):
    """What a session keeps of a project: `bytes` of at most `limit`."""

    project: str
    bytes: int
    limit: int
    items: Items


class Change(msgspec.Struct, frozen=True):
    """What an exchange makes of a memory: `new` items, and what it is to be if it is still as it was, `before`."""

    session: str
    project: str
    run: str
    new: Items
    before: Items
    after: Items


class Memory:
    """The memories of sessions, each of at most `limit` bytes; `keep` are seconds without a turn."""

    def __init__(self, client: Client, keys: Keys, keep: float, limit: int = LIMIT) -> None:
        self._client: Any = client
        self._keys, self._scripts, self._keep, self.limit = keys, Scripts(client), keep, limit

    async def read(self, session: str, project: str) -> Items:
        """A session's items of a project, the newest last."""
        return recalled(await self._client.hget(self._keys.memory(session), f"of:{project}"))

    async def all(self, session: str) -> list[ProjectMemory]:
        """What a session keeps, by projects."""
        found = cast("dict[bytes, bytes]", await self._client.hgetall(self._keys.memory(session)))
        of = {field.decode()[3:]: recalled(data) for field, data in found.items() if field.startswith(b"of:")}
        return [ProjectMemory(name, size(items), self.limit, items) for name, items in sorted(of.items()) if items]

    async def is_due(self, session: str, run_id: str) -> bool:
        """Whether an exchange is still to be considered."""
        return bool(await self._client.hexists(self._keys.memory(session), f"due:{run_id}"))

    async def pass_over(self, session: str, run_id: str) -> None:
        """There is nothing in an exchange to be kept."""
        await self._client.hdel(self._keys.memory(session), f"due:{run_id}")

    async def append(self, change: Change) -> bool:
        """Make an exchange's change, once; whether it was made now.

        Where others wrote meanwhile, the new items come to what they left, trimmed to the limit. Raises NotReachable
        `memory.busy` where that goes on.
        """
        key, due, of = self._keys.memory(change.session), f"due:{change.run}", f"of:{change.project}"
        for _ in range(ROUNDS):
            raw = cast("bytes", await self._client.hget(key, of) or b"")
            now = recalled(raw)
            after = change.after if now == change.before else joined(now, change.new)
            data = encoded(trimmed(after, self.limit))
            if (done := await self._scripts.keep_memory(key, due, of, raw, data, self._keep)) >= 0:
                return bool(done)
        raise NotReachable("memory.busy", f"Others write the memory of session {change.session!r} all the time.")


def recalled(data: bytes | None) -> Items:
    """Stored items; none where there are none, or what is there can't be read."""
    try:
        return decoded(data) if data else ()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        _log.warning("memory.unreadable", error=str(problem))
        return ()
