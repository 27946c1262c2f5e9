"""Which run a request is about: the same conversation is the same run, on whatever instance and however often it is
asked for, until its answer was handed over to its end; after that it is a new attempt.

A client has no ids to give: all there is, is who asks, whom, and what was said. So a run's id is derived from these and
from how many runs of theirs were handed over. A question that a step asks is a turn of the conversation, and what the
conversation is with it leads back to the run.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import blake2b
from math import ceil
from typing import Any

import anyio
import msgspec
from starlette.requests import Request

from gateway.http.openai.bodies import ChatRequest, Said
from schemas.envelope import derived_id
from streams.connection import TROUBLE, Client
from streams.keys import Keys

HEADERS = ("x-openwebui-user-id", "x-openwebui-chat-id")
"""By which a client that many people share says whose conversation it is."""
HAND_OVER = 1.0
"""Seconds for which a request waits to see whether an answer to the same messages is just arriving elsewhere."""


class Asker(msgspec.Struct, frozen=True):
    """Who asks whom: the caller, by its token; whom it says to speak for; and the model."""

    caller: str
    whom: tuple[str, ...]
    model: str

    @property
    def person(self) -> str:
        """Who it is in one word, whatever chat of theirs this is."""
        people = (self.caller, *self.whom[:3])
        return derived_id(*people) if any(people) else ""

    @classmethod
    def of(cls, request: Request, body: ChatRequest) -> "Asker":
        """That of a request."""
        caller: Any = request.scope.get("state", {}).get("caller")
        seed = None if body.seed is None else str(body.seed)
        said = (body.user, body.safety_identifier, *map(request.headers.get, HEADERS), *([seed] if seed else ()))
        return cls(caller.name if caller else "", tuple(each or "" for each in said), body.model)


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a request is about: a run, the conversation that it is the answer to, and the question of it that the last
    message answers, "" if it answers none. `after` is the run that asked, where that has ended: with another answer.
    `again` says that it is another attempt."""

    run_id: str
    conversation: str
    question: str = ""
    after: str = ""
    again: bool = False


class Conversations:
    """What is remembered of conversations: which runs were handed over, and which questions were asked. Each is kept
    for `keep` seconds, which is as long as what there is of an ended run."""

    def __init__(self, client: Client, keys: Keys, keep: float, questions: float) -> None:
        self._client: Any = client
        self._keys, self._keep, self._questions = keys, ceil(keep), ceil(keep + questions)
        self._arriving: dict[str, asyncio.Event] = {}

    async def turn(self, asker: Asker, messages: Sequence[Said]) -> Turn:
        """What a request with these messages is about. Raises redis errors."""
        conversation = _id(asker, messages)
        await self._arrived(conversation)
        before: int = await self._client.scard(self._keys.delivered(conversation))
        asked = await self._asked(asker, messages[:-1])
        if asked and not before and not await self._delivered(asked):
            return asked
        return self.fresh(conversation, before, asked.run_id if asked else "")

    def fresh(self, conversation: str, before: int = 0, after: str = "") -> Turn:
        """A conversation's run that is its own, after so many others."""
        return Turn(derived_id("conversation", conversation, before), conversation, after=after, again=before > 0)

    def own(self, asker: Asker, messages: Sequence[Said]) -> Turn:
        """The first run of these messages themselves, whatever they answer."""
        return self.fresh(_id(asker, messages))

    async def asks(self, asker: Asker, messages: Sequence[Said], turn: Turn) -> None:
        """Remember, before it is said, that the last of these messages is a question of the turn's run."""
        key = self._keys.turned(_id(asker, _spoken(messages)))
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hset(key, _id(asker, messages), msgspec.json.encode(turn))
        pipeline.expire(key, self._questions)
        await pipeline.execute()

    @asynccontextmanager
    async def handing_over(self, turn: Turn) -> AsyncGenerator[None]:
        """Inside, the end of a run's answer is sent. Once it is, the same messages are a new attempt.

        It counts when it was sent, not before: whoever dies in between leaves an answer that can still be fetched. Who
        asks again here at the same moment waits, so that nobody gets an answer twice that has arrived.
        """
        arriving = self._arriving.setdefault(turn.conversation, asyncio.Event())
        try:
            yield
            # Without a server it is forgotten: then the same answer is given once more.
            with anyio.CancelScope(shield=True), anyio.move_on_after(HAND_OVER), suppress(*TROUBLE):
                key = self._keys.delivered(turn.conversation)
                pipeline = self._client.pipeline(transaction=True)
                pipeline.sadd(key, turn.run_id)
                pipeline.expire(key, self._keep)
                await pipeline.execute()
        finally:
            arriving.set()
            self._arriving.pop(turn.conversation, None)

    async def _asked(self, asker: Asker, messages: Sequence[Said]) -> Turn | None:
        """The question that the last of these messages is, if it is one. A setting may tell the time, so that it is
        another one now: where there was only one such question, it is this."""
        if not messages or messages[-1].role != "assistant":
            return None
        found: dict[bytes, bytes] = await self._client.hgetall(self._keys.turned(_id(asker, _spoken(messages))))
        exact = found.get(_id(asker, messages).encode())
        data = exact or (next(iter(found.values())) if len(found) == 1 else None)
        return msgspec.json.decode(data, type=Turn) if data else None

    async def _arrived(self, conversation: str) -> None:
        if arriving := self._arriving.get(conversation):
            with anyio.move_on_after(HAND_OVER):
                await arriving.wait()

    async def _delivered(self, turn: Turn) -> bool:
        await self._arrived(turn.conversation)
        return bool(await self._client.sismember(self._keys.delivered(turn.conversation), turn.run_id))


def _spoken(messages: Sequence[Said]) -> list[Said]:
    return [each for each in messages if each.role != "system"]


def _id(asker: Asker, messages: Sequence[Said]) -> str:
    return blake2b(msgspec.json.encode((asker, messages)), digest_size=12).hexdigest()
