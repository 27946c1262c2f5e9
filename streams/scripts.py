"""The server-side scripts as typed functions. Each file in scripts/ names its keys and arguments in its header."""

from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, NamedTuple, cast

import msgspec
from redis.exceptions import NoScriptError

from schemas.plan import Limits
from streams.cluster import Client, Line

Arg = str | bytes | int


class Reclaimed(NamedTuple):
    """Entries taken over: (id, fields flat), how often each was delivered before, and how many were lost."""

    entries: list[tuple[bytes, list[bytes]]]
    deliveries: list[int]
    lost: int


class Retained(NamedTuple):
    """How many entries were removed, whether there may be more, which group keeps what should go, and the length."""

    removed: int
    more: bool
    held_by: str
    length: int


class Reserved(NamedTuple):
    """Tokens granted to an effect, -1 where tokens lack, -2 where calls do; and what the run had used and reserved."""

    granted: int
    used: int
    reserved: int
    calls: int


class Place(NamedTuple):
    """Where a turn stands in its session's line, from 0; -1 if it has no place. `wait` and `first_wait` are seconds."""

    place: int
    wait: float
    first: str
    first_wait: float


class Counted(NamedTuple):
    """Entries on one side of a group's place, and whether these are all: 1 or 0."""

    counted: int
    all: int


class Looked(NamedTuple):
    """What lag.lua finds, by the server's clock in ms; `server` is -1 where it has no count, `idle` and `due` where
    there is no such entry."""

    now: int
    length: int
    added: int
    server: int
    behind: Counted
    before: Counted
    first: str
    pending: int
    first_pending: str
    idle: int
    place: str
    delayed: int
    due: int
    consumers: int
    abandoned: int


class Script:
    """One script. The server is given its digest, and its text where it doesn't know that (yet, or any more).

    redis-py's own takes about 30 us a call longer.
    """

    def __init__(self, client: Client | Line, name: str) -> None:
        self._client = client
        self._text, self.digest = _source(name)

    async def __call__(self, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """Run it; the reply. Raises redis errors."""
        try:
            return await self._client.execute_command("EVALSHA", self.digest, len(keys), *keys, *args)
        except NoScriptError:
            return await self._client.execute_command("EVAL", self._text, len(keys), *keys, *args)


@cache
def _source(name: str) -> tuple[str, str]:
    """A script's text and its digest."""
    text = (files("streams") / "scripts" / f"{name}.lua").read_text()
    return text, sha1(text.encode(), usedforsecurity=False).hexdigest()


class Scripts:
    """All scripts, on one client, or a line of its own."""

    def __init__(self, client: Client | Line) -> None:
        def load(name: str) -> Script:
            return Script(client, name)

        self._settle, self._promote, self._reclaim = load("settle"), load("promote"), load("reclaim")
        self._record = load("record")
        self._append_once, self._lease, self._leave = load("append_once"), load("lease"), load("leave")
        self._retain, self._offer, self._keep_record = load("retain"), load("offer"), load("keep_record")
        self._drop_journal = load("drop_journal")
        self._reserve, self._spend, self._in_line = load("reserve"), load("spend"), load("in_line")
        self._keep_memory = load("keep_memory")
        self._line_up, self._end_turn, self._clear_session = load("line_up"), load("end_turn"), load("clear_session")
        self._move_letters, self._count_letters, self._lag = load("move_letters"), load("count_letters"), load("lag")
        self._redeliver = load("redeliver")

    async def settle(self, keys: Sequence[str], args: Sequence[Arg]) -> list[int]:
        """Settle a batch; for each entry 1 settled, 0 not pending any more, -1 its state has changed, -2 one of its
        effects has a record already."""
        return cast("list[int]", await self._settle(keys=keys, args=args))

    async def record(self, keys: Sequence[str], args: Sequence[Arg]) -> list[list[bytes | None] | Exception]:
        """Read and write hash fields; for each request what they held, or an error where its key is no hash."""
        return cast("list[list[bytes | None] | Exception]", await self._record(keys=keys, args=args))

    async def promote(self, delayed: str, stream: str, dead: str, limit: int, bad_letter: bytes) -> int:
        """Put up to `limit` due entries back on their stream, what is no entry to the dead letters; how many."""
        return cast("int", await self._promote(keys=[delayed, stream, dead], args=[limit, bad_letter]))

    async def reclaim(
        self, stream: str, leases: str, dead: str, group: str, consumer: str, limit: int, lost_letter: bytes
    ) -> Reclaimed:
        """Take over up to `limit` entries of consumers without a lease."""
        reply = await self._reclaim(keys=[stream, leases, dead], args=[group, consumer, limit, lost_letter])
        return Reclaimed(*reply)

    async def append_once(
        self, marker: str, stream: str, field: str, type_name: str, event: bytes, ttl: int = 0
    ) -> bool:
        """Append an event unless it was before; whether it was not. The marker lives `ttl` seconds, 0 for ever."""
        return await self._append_once(keys=[stream, stream, marker], args=[field, ttl, 0, 0, type_name, event]) == [1]

    async def append_all(
        self,
        stream: str,
        counted: str,
        field: str,
        limit: int,
        groups: Sequence[str],
        events: Sequence[tuple[str, str, bytes]],
    ) -> list[int]:
        """Append (marker, type, event) unless appended before, while less than `limit` entries wait for the groups.

        For each event 1 appended, 0 known, -n refused because n entries wait.
        """
        args: list[Arg] = [field, 0, limit, len(groups), *groups]
        for _, type_name, event in events:
            args += (type_name, event)
        keys = [stream, counted, *(marker for marker, _, _ in events)]
        return cast("list[int]", await self._append_once(keys=keys, args=args))

    async def retain(self, stream: str, keep: float, entries: int, limit: int, groups: Sequence[str]) -> Retained:
        """Remove up to `limit` entries older than `keep` seconds (0: none is too old) or beyond `entries`."""
        args: list[Arg] = [int(keep * 1000), entries, limit, *groups]
        removed, more, held_by, length = await self._retain(keys=[stream], args=args)
        return Retained(removed, bool(more), held_by.decode(), length)

    async def lease(self, leases: str, consumer: str, seconds: float) -> None:
        """Hold a lease for `seconds` from now."""
        await self._lease(keys=[leases], args=[consumer, int(seconds * 1000)])

    async def offer(self, offers: str, consumer: str, seconds: float, offer: bytes) -> None:
        """Say what an inference consumer offers for `seconds` from now; 0 withdraws it."""
        await self._offer(keys=[offers], args=[consumer, int(seconds * 1000), offer])

    async def reserve(
        self, budget: str, effect: str, wanted: int, enough: int, limits: Limits, keep: float
    ) -> Reserved:
        """Reserve `wanted` tokens, at least `enough`, and a call. The budget is kept for `keep` seconds from now."""
        args: list[Arg] = [effect, wanted, enough, 1, limits.tokens, limits.calls, int(keep * 1000)]
        return Reserved(*await self._reserve(keys=[budget], args=args))

    async def spend(self, budget: str, effect: str, tokens: int, calls: int) -> None:
        """Put what an effect cost in the place of what is reserved for it, once."""
        await self._spend(keys=[budget], args=[effect, tokens, calls])

    async def leave(self, stream: str, leases: str, group: str, consumer: str) -> int:
        """Give the lease up; how many pending entries stay behind for others."""
        return cast("int", await self._leave(keys=[stream, leases], args=[group, consumer]))

    async def keep_record(
        self, records: str, times: str, how: str, record_id: str, time: int, record: bytes, most: int
    ) -> int:
        """`add` or `replace` a project's record; 1 done, 0 there is one already, or none, -1 there are `most`."""
        return cast("int", await self._keep_record([records, times], [how, record_id, time, record, most]))

    async def remove_record(self, records: str, times: str, record_id: str) -> bool:
        """Remove a project's record; whether there was one."""
        return bool(await self._keep_record([records, times], ["remove", record_id]))

    async def drop_journal(self, journal: str, seen: int) -> bool:
        """Remove a journal if it has no more than the `seen` fields; whether it is gone."""
        return bool(await self._drop_journal([journal], [seen]))

    async def in_line(self, stream: str, group: str, most: int, size: int) -> tuple[list[bytes], bool]:
        """Whose entries a group has still to be given: of the first `most`, of `size` bytes, the run's id, b"" where
        one has none; and whether these are all."""
        complete, *runs = await self._in_line(keys=[stream], args=[group, most, size])
        return runs, bool(complete)

    async def line_up(
        self, sessions: str, turns: Sequence[tuple[str, str, str]], keep: float, room: int, listed: int
    ) -> list[Place]:
        """Give (line, session, run id) places in lines that take `room` turns each, 0 for any number; where they stand.

        Without a run id one only looks. All is kept for `keep` seconds, `listed` sessions are.
        """
        args: list[Arg] = [int(keep * 1000), room, listed]
        for _, session, run_id in turns:
            args += (session, run_id)
        reply = await self._line_up(keys=[sessions, *(line for line, _, _ in turns)], args=args)
        return [Place(place, wait / 1000, first.decode(), since / 1000) for place, wait, first, since in reply]

    async def end_turn(
        self,
        keys: Sequence[str],
        run_id: str,
        said: bytes,
        begins: bytes,
        expert: str,
        most: int,
        keep: float,
    ) -> bool:
        """End a turn by (line, what was said, session, memory), keeping the `most` last things said; whether this was
        kept."""
        return await self._end_turn(keys=keys, args=[run_id, said, begins, expert, most, int(keep * 1000)]) == 1

    async def clear_session(self, keys: Sequence[str], session: str, keep: float) -> int:
        """Forget a session by (line, what was said, session, sessions, memory); how many exchanges that were."""
        return cast("int", await self._clear_session(keys=keys, args=[session, int(keep * 1000)]))

    async def keep_memory(
        self, memory: str, exchange: str, project: str, before: bytes, after: bytes, keep: float
    ) -> int:
        """Put a session's items of a project in the place of those `before`, by an exchange that is to be considered;
        1 written, 0 it is not (any more), -1 they have changed."""
        return cast("int", await self._keep_memory([memory], [exchange, project, before, after, int(keep * 1000)]))

    async def move_letters(self, keys: Sequence[str], args: Sequence[Arg]) -> list[int]:
        """Take dead letters away, with entries in their place or none; for each 1, or 0 where it was gone."""
        return cast("list[int]", await self._move_letters(keys=keys, args=args))

    async def lag(self, keys: Sequence[str], group: str, most: int, size: int) -> Looked:
        """What is known of a stage's (stream, delayed entries, leases), counting `most` entries, of `size` bytes."""
        found: list[Any] = await self._lag(keys=keys, args=[group, most, size])
        text = [each.decode() if isinstance(each, bytes) else each for each in found]
        return msgspec.convert(text, Looked)

    async def count_letters(self, dead: str, most: int, size: int) -> tuple[int, int, dict[str, int]]:
        """How many dead letters there are, how many were looked at, and these by stage."""
        letters, looked, *rest = await self._count_letters(keys=[dead], args=[most, size])
        return letters, looked, {stage.decode(): count for stage, count in zip(rest[::2], rest[1::2], strict=True)}

    async def redeliver(self, keys: Sequence[str], args: Sequence[Arg]) -> list[int]:
        """Put entries on a stream once more; for each 1, or 0 where it was put there once more before."""
        return cast("list[int]", await self._redeliver(keys=keys, args=args))
