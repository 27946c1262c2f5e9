"""How busy other agents are with what this Victoria has given them: kept on the server, for all its processes."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from anyio import move_on_after

from schemas.errors import AgentFailed
from streams.connection import TROUBLE, Client, server_ms
from streams.keys import Keys

SHUN = 30.0
"""Seconds for which an agent that failed counts as busy."""
FORGET = 1.0
"""Seconds to take a work off, when all is to end."""
SHUNNED = "shunned"
"""Among the works of an agent, what says so."""
FAILURES = frozenset({"delegation.unreachable", "delegation.lost", "delegation.http"})
"""Failures that are the agent's, not the work's."""


class AgentLoad:
    """The loads of these agents, each of which does `at_once` works at once. It is advice: without the server, none."""

    def __init__(self, client: Client, keys: Keys, agents: Iterable[str], at_once: int) -> None:
        self._client: Any = client
        self._keys, self._agents, self._at_once = keys, tuple(agents), at_once

    @asynccontextmanager
    async def open(self, agent: str, work: str, seconds: float) -> AsyncGenerator[None]:
        """Inside, the agent has this work. After a crash it counts until `seconds` have passed."""
        await self._note(agent, work, seconds)
        try:
            yield
        except AgentFailed as failure:
            if failure.code in FAILURES:
                await self._note(agent, SHUNNED, SHUN)
            raise
        else:
            await self._forget(agent, SHUNNED)
        finally:
            await self._forget(agent, work)

    async def loads(self) -> dict[str, float]:
        """How busy each agent is, 0 to 1. Raises redis errors."""
        if not self._agents:
            return {}
        now, pipeline = await server_ms(self._client), self._client.pipeline(transaction=False)
        for agent in self._agents:
            pipeline.zrangebyscore(self._keys.works(agent), now, "+inf")
        found = zip(self._agents, await pipeline.execute(), strict=True)
        return {agent: self._load({work.decode() for work in works}) for agent, works in found}

    def _load(self, works: set[str]) -> float:
        return 1.0 if SHUNNED in works else min(1.0, len(works) / self._at_once)

    async def _note(self, agent: str, work: str, seconds: float) -> None:
        key = self._keys.works(agent)
        with suppress(*TROUBLE):
            now, pipeline = await server_ms(self._client), self._client.pipeline(transaction=False)
            pipeline.zremrangebyscore(key, "-inf", now)
            pipeline.zadd(key, {work: now + int(seconds * 1000)})
            pipeline.expire(key, 86_400)
            await pipeline.execute()

    async def _forget(self, agent: str, work: str) -> None:
        with suppress(*TROUBLE), move_on_after(FORGET, shield=True):
            await self._client.zrem(self._keys.works(agent), work)
