"""Sessions: the turns of one conversation are taken one after the other, and each knows what was said before.

The runs of a session stand in a line, in the order in which they were submitted. Who is first has the turn, until its
exchange is kept. Nobody has to be told to go: a run that ended, or that was never published, is taken out by the next.
A session lies in one cluster slot and each of its runs in another; what is done to either is one script by itself.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Any, cast

import msgspec

from consumers.intake import HISTORY_PAIRS
from consumers.runs.state import STAGE, RunState, exchange
from consumers.session_memory.items import Items
from consumers.session_memory.stored import LIMIT, Memory
from llm.prompts import excerpt
from schemas.envelope import decode
from schemas.errors import ErrorInfo
from schemas.events import Exchange, ExchangeCompleted, GoalSubmitted
from schemas.plan import Trust
from streams.append import SUBMITTED
from streams.asking import KEEP_REASON, Waiting
from streams.connection import Client
from streams.keys import Keys
from streams.scripts import Place, Scripts
from streams.stage import Snooze

ROOM = 1_000
"""Turns that may wait in one session before doors refuse more."""
LISTED = 10_000
"""Sessions of a partition that can be listed, the latest ones. Older ones are there as well, for who knows their id."""
SAID_CHARACTERS = 4_000
"""What is kept of a goal, and of an answer; the middle of longer ones is left out."""
UNPUBLISHED = 10.0
"""Seconds after which a run in line that nobody has published counts as given up: its door died."""
SOONEST, LATEST = 0.1, 10.0
"""Seconds between looks of a run that waits for its turn."""
AT_ONCE = 256
"""Turns in one script call."""


class Said(msgspec.Struct, frozen=True):
    """One exchange of a session as it is kept; `run` comes first, by which it is found."""

    run: str
    user: str
    assistant: str


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run's turn: what was said before, the newest last, which expert had the last turn, and what the session keeps
    of the run's project. `over` says that the run has ended already."""

    history: tuple[Exchange, ...] = ()
    expert: str = ""
    over: bool = False
    memory: Items = ()


class Heard(msgspec.Struct, frozen=True):
    """What a run was asked for, word for word, and how trusted that is."""

    goal: str
    trust: Trust


class SessionView(msgspec.Struct, frozen=True):
    """A session for people: what was said in it, and the runs in its line, the first of which has the turn."""

    session: str
    expert: str
    said: tuple[Said, ...]
    line: tuple[str, ...]


class SessionRow(msgspec.Struct, frozen=True):
    """A session in a list: how many exchanges are kept and how many runs in line; `at` is when a turn came last."""

    session: str
    expert: str
    said: int
    line: int
    at: datetime


class NotYet(Snooze):
    """Another run of the session, `ahead`, has the turn."""

    def __init__(self, ahead: str, delay: float) -> None:
        super().__init__(delay)
        self.ahead = ahead


class Sessions:
    """The sessions of a server. Seconds: `keep`, how long a session stays without a turn; `unpublished`, as above.
    `limit` are the bytes of their memories."""

    def __init__(
        self,
        client: Client,
        keys: Keys,
        keep: float = 30 * 86_400.0,
        unpublished: float = UNPUBLISHED,
        limit: int = LIMIT,
    ) -> None:
        self._client: Any = client
        self.memory = Memory(client, keys, keep, limit)
        self._keys, self._scripts, self._keep, self._unpublished = keys, Scripts(client), keep, unpublished

    async def line_up(self, turns: Sequence[tuple[str, str]]) -> list[bool]:
        """Give (session, run id) pairs places in line, in their order, before they are published; for each whether the
        line had room. Those that were published before are passed over."""
        fits = [True] * len(turns)
        runs = self._client.pipeline(transaction=False)
        for _, run_id in turns:
            runs.hexists(self._keys.run(self._keys.of_run(run_id), run_id), SUBMITTED)
        places: dict[str, list[int]] = {}
        for number, known in enumerate(await runs.execute() if turns else ()):
            if not known:
                places.setdefault(self._keys.of_session(turns[number][0]), []).append(number)
        for partition, numbers in places.items():
            for start in range(0, len(numbers), AT_ONCE):
                part = numbers[start : start + AT_ONCE]
                for number, found in zip(
                    part, await self._lines(partition, [turns[each] for each in part], ROOM), strict=True
                ):
                    fits[number] = found.place >= 0
        return fits

    async def enter(self, session: str, run_id: str, project: str = "") -> Turn:
        """The run's turn in a project, once it has it. Raises NotYet, and leaves word for whom it waits.

        It stays the run's until `keep` or `leave`. A run that came without a door gets its place here.
        """
        key, waiting = self._keys.run(self._keys.of_run(run_id), run_id), self._keys.waiting(run_id)
        own = self._client.pipeline(transaction=False)
        own.hsetnx(key, "session", session)  # says that the run is alive, if no door did
        own.hget(key, STAGE)
        own.delete(waiting)
        _, state, _ = await own.execute()
        if state and _decoded(state).finished:
            await self._end(session, run_id, _decoded(state))
            return Turn(over=True)
        while (found := await self._place(session, run_id)).place > 0:
            if not await self._pass_over(session, found):
                delay = min(max(found.wait / 10, found.place / 50, SOONEST), LATEST)
                reason = Waiting("session", _behind(session, found.first), datetime.now(UTC))
                await self._client.set(waiting, msgspec.json.encode(reason), ex=KEEP_REASON + ceil(delay))
                raise NotYet(found.first, delay)
        expert, said = await self._known(session)
        memory = await self.memory.read(session, project)
        return Turn(tuple(Exchange(each.user, each.assistant) for each in said), expert, memory=memory)

    async def keep(self, run_id: str, ended: ExchangeCompleted) -> bool:
        """End a run's turn; if it was completed, what was said is kept, once. Whether it was now."""
        if ended.status != "completed":
            return await self.leave(ended.session, run_id)
        goal = (await self.heard(run_id, ended)).goal
        return await self.leave(ended.session, run_id, Exchange(goal, ended.output), ended.expert)

    async def heard(self, run_id: str, ended: ExchangeCompleted) -> Heard:
        """What was said in a run's turn; where that is gone, what a model may have made of it."""
        submitted = await self._client.hget(self._keys.run(self._keys.of_run(run_id), run_id), SUBMITTED)
        first = decode(GoalSubmitted.__name__, submitted) if submitted else None
        return (
            Heard(first.body.goal, first.trust)
            if first and isinstance(first.body, GoalSubmitted)
            else Heard(ended.goal, "model")
        )

    async def leave(self, session: str, run_id: str, said: Exchange | None = None, expert: str = "") -> bool:
        """Take a run out of the line, and keep what was said in its turn; whether that was new."""
        begins = data = b""
        if said:
            user, assistant = excerpt(said.user, SAID_CHARACTERS), excerpt(said.assistant, SAID_CHARACTERS)
            data = msgspec.json.encode(Said(run_id, user, assistant))
            begins = msgspec.json.encode({"run": run_id})[:-1] + b","
        names = self._keys
        keys = names.turns(session), names.said(session), names.session(session), names.memory(session)
        return await self._scripts.end_turn(keys, run_id, data, begins, expert, HISTORY_PAIRS, self._keep)

    async def clear(self, session: str) -> int:
        """Forget what was said so far, in turns that have not ended too, what was kept of it, and the expert; how many
        exchanges."""
        keys, listed = self._keys, self._keys.sessions(self._keys.of_session(session))
        names = keys.turns(session), keys.said(session), keys.session(session), listed, keys.memory(session)
        return await self._scripts.clear_session(names, session, self._keep)

    async def show(self, session: str) -> SessionView | None:
        """What is known of a session, if anything."""
        await self._tidy(session)
        expert, said = await self._known(session)
        line = await self._client.zrange(self._keys.turns(session), 0, -1)
        return SessionView(session, expert, said, tuple(map(bytes.decode, line))) if said or line else None

    async def place(self, session: str, run_id: str) -> int | None:
        """How many runs are before this one in a session's line; None where it stands in none."""
        return await self._client.zrank(self._keys.turns(session), run_id)

    async def newest(self, limit: int) -> list[SessionRow]:
        """The sessions that had a turn last, the newest first."""
        found: list[tuple[float, str]] = []
        for partition in self._keys.of_stream("intake"):
            listed = await self._client.zrevrange(self._keys.sessions(partition), 0, limit - 1, withscores=True)
            found += [(at, session.decode()) for session, at in listed]
        rows: list[SessionRow] = []
        for at, session in sorted(found, reverse=True)[:limit]:
            await self._tidy(session)
            several = self._client.pipeline(transaction=False)
            several.hget(self._keys.session(session), "expert")
            several.llen(self._keys.said(session))
            several.zcard(self._keys.turns(session))
            expert, said, line = await several.execute()
            if said or line:
                rows.append(
                    SessionRow(session, (expert or b"").decode(), said, line, datetime.fromtimestamp(at / 1e6, UTC))
                )
        return rows

    async def _lines(self, partition: str, turns: Sequence[tuple[str, str]], room: int = 0) -> list[Place]:
        lines = [(self._keys.turns(session), session, run_id) for session, run_id in turns]
        return await self._scripts.line_up(self._keys.sessions(partition), lines, self._keep, room, LISTED)

    async def _place(self, session: str, run_id: str = "") -> Place:
        return (await self._lines(self._keys.of_session(session), [(session, run_id)]))[0]

    async def _known(self, session: str) -> tuple[str, tuple[Said, ...]]:
        """Its expert and what was said in it, both kept anew from now on."""
        both = self._client.pipeline(transaction=False)
        both.hget(self._keys.session(session), "expert")
        both.lrange(self._keys.said(session), 0, -1)
        for key in (self._keys.session(session), self._keys.said(session), self._keys.memory(session)):
            both.pexpire(key, int(self._keep * 1000))
        expert, said, *_ = await both.execute()
        return (expert or b"").decode(), tuple(msgspec.json.decode(each, type=Said) for each in said)

    async def _tidy(self, session: str) -> None:
        """Take out whoever is first and will not leave by himself."""
        while (found := await self._place(session)).first and await self._pass_over(session, found):
            pass

    async def _pass_over(self, session: str, found: Place) -> bool:
        """Whether the first in line has ended, or never was published, and so was taken out."""
        run_id = found.first
        key = self._keys.run(self._keys.of_run(run_id), run_id)
        submitted, entered, data = await self._client.hmget(key, [SUBMITTED, "session", STAGE])
        state = _decoded(data) if data else RunState()
        if state.finished:
            await self._end(session, run_id, state)
        elif submitted or entered or found.first_wait < self._unpublished:
            return False
        else:
            await self.leave(session, run_id)
        return True

    async def _end(self, session: str, run_id: str, state: RunState) -> None:
        """The same as memory-compress does, which may be about to, or can't where a run ended before it had a plan."""
        ended = exchange(state)
        if ended and ended.session == session:
            await self.keep(run_id, ended)
        else:
            await self.leave(session, run_id)


def _decoded(state: Any) -> RunState:
    return msgspec.json.decode(cast("bytes", state), type=RunState)


def _behind(session: str, run_id: str) -> ErrorInfo:
    return ErrorInfo(
        "session.turn",
        f"It waits for run {run_id}, an earlier turn of its session {session!r}.",
        f"`victoria status {run_id}` shows that one, `victoria cancel {run_id}` ends it.",
    )
