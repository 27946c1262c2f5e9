"""What inference consumers offer: they announce it, and by that the stages' questions are routed."""

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from llm.models import BACKENDS, Backend, Fault, Offer, Wish
from llm.router import Needs, ranked
from schemas.advice import Tried
from schemas.errors import ModelFailed, NoModelNow
from schemas.inference import Priority, Question
from streams.asking import Route
from streams.connection import Client, server_ms
from streams.keys import Keys
from streams.recent import Recent
from streams.scripts import Scripts
from streams.worker import is_gone

FRESH = 1.0
"""Seconds for which what was read is good."""
DIGITS = 18
"""A time in ms has fewer."""


class Announcement(msgspec.Struct, frozen=True):
    """What one consumer offers of one back end, and which of its nodes do not say what they have."""

    consumer: str
    engine: Backend
    offers: tuple[Offer, ...] = ()
    faults: tuple[Fault, ...] = ()


def stream_of(engine: str, priority: Priority = "interactive") -> str:
    """The inference stream of a back end."""
    return f"infer.{engine}" + (".background" if priority == "background" else "")


def backend_of(stage: str) -> Backend | None:
    """The back end of an inference stage, by its name; None for any other stage."""
    return next((engine for engine in BACKENDS if stage.split(".")[:2] == ["infer", engine]), None)


class Board:
    """All announcements, on the server."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._key, self._scripts = client, keys.offers(), Scripts(client)
        self._recent = Recent(self._read)

    async def announce(self, said: Announcement, seconds: float) -> None:
        """Say what a consumer offers for `seconds` from now; 0 withdraws it. Raises redis errors."""
        field = f"{said.consumer}/{said.engine}"
        await self._scripts.offer(self._key, field, seconds, msgspec.json.encode(said))

    async def announcements(self, *, fresh: bool = False) -> tuple[Announcement, ...]:
        """What is offered now, or was a second ago; with `fresh`, now. Raises redis errors."""
        return await self._recent.within(0.0 if fresh else FRESH)

    async def offers(self, *, fresh: bool = False) -> list[Offer]:
        """The offers of all consumers."""
        return [offer for said in await self.announcements(fresh=fresh) for offer in said.offers]

    async def _read(self) -> tuple[Announcement, ...]:
        now = await server_ms(self._client)
        found = cast("dict[bytes, bytes]", await cast("Any", self._client).hgetall(self._key))
        announced: list[Announcement] = []
        for value in found.values():
            until, _, said = value.partition(b":")
            try:
                announcement = msgspec.json.decode(said, type=Announcement)
            except (ValueError, RecursionError):
                continue  # of a newer version, or no announcement at all
            if until.isdigit() and len(until) < DIGITS and int(until) >= now and not is_gone(announcement.consumer):
                announced.append(announcement)
        return tuple(announced)


class OfferRouter:
    """Chooses among what is offered: by `wish`, the models that may be used, and `priority`, a list of their names."""

    def __init__(self, board: Board, wish: Wish, priority: Sequence[str]) -> None:
        self._board, self._wish, self._priority = board, wish, tuple(priority)

    async def route(self, question: Question[Any], tried: Sequence[Tried]) -> Route:
        """The stream and the model for a question. See streams.asking.Router."""
        needs = Needs.of(question.messages, question.schema, tried=tried)
        wish = Wish.parse(question.model) if question.model else self._wish
        try:
            best = self._best(needs, wish, await self._board.offers(fresh=bool(tried)))
        except (NoModelNow, ModelFailed):
            best = await self._best_now(needs, wish)
        return Route(stream_of(best.model.engine, question.priority), best.model.name)

    async def serves(self, route: Route) -> bool:
        """Whether a consumer of this stream's back end is alive."""
        engine = backend_of(route.stream)
        return any(said.engine == engine for said in await self._board.announcements(fresh=True))

    async def _best_now(self, needs: Needs, wish: Wish) -> Offer:
        """By what is offered at this moment. Where that is nothing, the reasons of silent nodes are."""
        said = await self._board.announcements(fresh=True)
        try:
            return self._best(needs, wish, [offer for each in said for offer in each.offers])
        except NoModelNow as problem:
            faults = " ".join(fault.error.message for each in said for fault in each.faults)
            raise NoModelNow(problem.code, f"{problem.message} {faults}".strip(), problem.hint) from None

    def _best(self, needs: Needs, wish: Wish, offers: Sequence[Offer]) -> Offer:
        return ranked(offers, needs, wish, self._priority)[0]
