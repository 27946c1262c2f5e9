"""The answer cache: what an earlier run found out is given again, as long as nothing that it rests on has changed.

It is on the server of the streams, not in the database. A look is one GET, which no second server can delay or fail;
the server lets answers expire by itself; and one that is lost is only found out anew. PostgreSQL keeps what must stay.

An answer's key is the hash of what was asked, with all that was said, kept or remembered beside it, and of who would
answer: experts, strategies, tools and prompts. So with a memory that is forgotten, or recalled beside the others, it is
another key. Files and folders that were read are read again at each look.
"""

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, cast

import anyio
import msgspec
import structlog

from consumers.experts.roster import Roster
from consumers.memory import Memory
from consumers.plugins import source
from consumers.runs.reuse import Reusable
from consumers.session_memory.items import Items
from consumers.strategies.registry import Strategies
from consumers.tools.registry import Registry
from consumers.tools.seen import unchanged
from consumers.tools.tool import Site
from consumers.tools.workspace import Workspace
from llm.prompts import names, prompt
from schemas.errors import ToolRefused
from schemas.events import Exchange
from schemas.plan import Known, Moment, Seen, Trust
from streams.connection import TROUBLE, Client
from streams.keys import Keys

MOST = 1_000
"""Answers that are kept for a project, those that expire last."""
WITHIN = 0.5
"""Seconds in which sources are looked at; where that takes longer, the answer counts as unknown."""

_INNER = re.compile(r"(?<=\S)[^\S\n]+(?=\S)|[^\S\n]+$", re.MULTILINE)
_log: Any = structlog.get_logger()


class Wanted(msgspec.Struct, frozen=True, omit_defaults=True):
    """A goal as it counts: who `asks` for what, where, and how; with which of an installation's models; in which
    setting, after which turns, the last of which was `before`'s; and what is kept or remembered beside."""

    goal: str
    project: str = ""
    asker: str = ""
    strategy: str = ""
    expert: str = ""
    model: str = ""
    setting: str = ""
    history: tuple[Exchange, ...] = ()
    before: str = ""
    kept: Items = ()
    memories: tuple[Memory, ...] = ()


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer that is known. `trust` is what it deserves, `sources` what it rests on."""

    output: str
    known: Known
    method: str
    model: str
    trust: Trust
    expert: str = ""
    sources: tuple[Seen, ...] = ()


class Found(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of a look: the answer, if it is known, and the `key` under which a new one is kept, "" for nowhere."""

    key: str = ""
    answer: Answer | None = None


NOTHING = Found()


def normal(goal: str) -> str:
    """A goal without what makes no difference: how its letters are composed, and white space, but for new lines and
    how lines are indented, which programs live by. Not NFKC, by which 2² would be 22.

    >>> normal("  What  is a queue? ")
    'What is a queue?'
    """
    return _INNER.sub(
        lambda found: "" if found.end() == len(found.string) or found.string[found.end()] == "\n" else " ",
        unicodedata.normalize("NFC", goal.strip()),
    )


def key_of(wanted: Wanted, staff: str) -> str:
    """The key of a goal's answer by a staff, which is a hash too: 64 hexadecimal digits. JSON keeps the parts apart, so
    that no goal looks like another one's parts."""
    same = msgspec.structs.replace(wanted, goal=normal(wanted.goal))
    return blake2b(msgspec.json.encode((staff, same), order="deterministic"), digest_size=32).hexdigest()


def staff_of(roster: Roster, strategies: Strategies, tools: Registry, *also: str) -> str:
    """The hash of all who may have a part in an answer, by what stands in their files, wherever these lie."""
    experts = {name: msgspec.structs.replace(each, source="") for name, each in roster.experts.items()}
    files = [source(type(each)) for each in strategies.by_name.values()]
    files += [tool.source for tool in tools.tools.values()]
    prompts = [(name, prompt(name).system, prompt(name).template) for name in names()]
    parts = (experts, [(path.name, path.read_text("utf-8")) for path in files], prompts, also)
    return blake2b(msgspec.json.encode(parts, order="deterministic"), digest_size=32).hexdigest()


class AnswerCache:
    """The answers of a server that are known, each for `seconds`; 0 keeps and gives none.

    `staff` is the hash of who answers now; `workspaces`, `tools` and `resolved` are those of the projects. Raises redis
    errors.
    """

    def __init__(
        self,
        client: Client,
        keys: Keys,
        seconds: float,
        staff: Callable[[], str],
        workspaces: Callable[[str], Workspace],
        tools: Registry,
        resolved: Callable[[str], str] = str,
    ) -> None:
        self._client: Any = client
        self._keys, self._seconds, self._staff = keys, seconds, staff
        self._workspaces, self._tools, self._resolved = workspaces, tools, resolved

    async def look(self, wanted: Wanted, *, renew: bool = False) -> Found:
        """What is known of a goal; with `renew` only where its answer will be kept."""
        if not self._seconds:
            return NOTHING
        project = self._resolved(wanted.project)
        key = key_of(msgspec.structs.replace(wanted, project=project), self._staff())
        data = None if renew else await self._client.get(self._keys.known(project, key))
        answer = _read(data) if data else None
        return Found(
            key, answer if answer and self._new(answer) and await self._holds(project, answer.sources) else None
        )

    async def keep(self, kept: Reusable, run: str, at: Moment, trust: Trust) -> bool:
        """Keep a run's answer from `at` on; doing it again changes nothing. False where the server would not: then it
        is only unknown."""
        project, expires = self._resolved(kept.project), int((at + timedelta(seconds=self._seconds)).timestamp() * 1000)
        known = Known(run, at)
        answer = Answer(kept.output, known, kept.method, kept.model, trust, kept.expert, kept.sources)
        every, pipeline = self._keys.all_known(project), self._client.pipeline(transaction=True)
        pipeline.set(self._keys.known(project, kept.key), msgspec.json.encode(answer), pxat=expires)
        pipeline.zadd(every, {kept.key: expires})
        pipeline.zremrangebyscore(every, "-inf", int(at.timestamp() * 1000))
        pipeline.zrange(every, 0, -MOST - 1)
        pipeline.pexpire(every, int(self._seconds * 1000) + 1000)
        try:
            *_, beyond, _ = await pipeline.execute()
            await _remove(self._client, self._keys, project, beyond)
        except TROUBLE as problem:
            _log.warning("answer.not_kept", run=run, error=str(problem))
            return False
        return True

    def _new(self, answer: Answer) -> bool:
        """Whether it is still given: the setting may have been a longer time when it was kept."""
        return datetime.now(UTC) - answer.known.at < timedelta(seconds=self._seconds)

    async def _holds(self, project: str, sources: tuple[Seen, ...]) -> bool:
        """Whether all that an answer rests on is as it was."""
        if not sources:
            return True
        try:
            workspace = self._workspaces(project)
        except ToolRefused:
            return False
        with anyio.move_on_after(WITHIN):
            return await unchanged(sources, self._tools, Site(workspace, self._tools.allowed))
        return False


async def clear(client: Client, keys: Keys, project: str) -> int:
    """Forget all answers of a project, by its own name; how many. Raises redis errors."""
    listed = await cast("Any", client).zrange(keys.all_known(project), 0, -1)
    return await _remove(client, keys, project, listed)


async def _remove(client: Client, keys: Keys, project: str, listed: list[bytes]) -> int:
    if not listed:
        return 0
    pipeline: Any = client.pipeline(transaction=True)
    pipeline.unlink(*(keys.known(project, key.decode()) for key in listed))
    pipeline.zrem(keys.all_known(project), *listed)
    removed, _ = await pipeline.execute()
    return removed


def _read(data: bytes) -> Answer | None:
    """An answer as it is kept; None for what somebody else put there."""
    try:
        return msgspec.json.decode(data, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
