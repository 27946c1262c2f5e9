"""Waiting for answers that inference consumers write into journals.

A consumer publishes the effect's name on the asking worker's channel once the journal has it. That message is only a
hint: it can be lost, so whoever waits also looks into the journal from time to time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

import anyio
import structlog

from schemas.errors import ModelFailed
from streams.connection import TROUBLE, Client
from streams.journal import Journal, Record

LOOK_AGAIN = 2.0
"""Seconds between looks into the journal while no hint comes."""

_log: Any = structlog.get_logger()


class Answers:
    """What one worker waits for. `channel` is where hints for it are published; `listen` runs beside its stages."""

    def __init__(self, client: Client, journal: Journal, channel: str) -> None:
        self._client, self._journal, self.channel = client, journal, channel
        self._hints: dict[str, asyncio.Event] = {}

    @contextmanager
    def expecting(self, effect: str) -> Generator[asyncio.Event]:
        """Take hints for `effect` inside; enter before asking, so that no hint falls in between."""
        hint = self._hints[effect] = asyncio.Event()
        try:
            yield hint
        finally:
            self._hints.pop(effect, None)

    async def wait(
        self,
        run_id: str,
        effect: str,
        hint: asyncio.Event,
        deadline: datetime,
        gone: Callable[[], Awaitable[bool]],
    ) -> Record | None:
        """The record of `effect`, once it is there; None after the deadline.

        Raises ModelFailed with `model.unreachable` where nobody is left to answer, as `gone` says twice in a row: one
        who starts again may have been away between two looks.
        """
        missing = 0
        while True:
            left = (deadline - datetime.now(UTC)).total_seconds()
            with anyio.move_on_after(max(0.0, min(left, LOOK_AGAIN))):
                await hint.wait()
            heard = hint.is_set()
            hint.clear()
            if record := await self._journal.read(run_id, effect):
                return record
            if left <= 0:
                return None
            missing = missing + 1 if not heard and await gone() else 0
            if missing > 1:
                raise ModelFailed(
                    "model.unreachable", "The inference consumer of the model that was asked is gone.", "Start another."
                )

    async def listen(self) -> None:
        """Receive hints until cancelled; a broken subscription is renewed, and everything awaited looked up again."""
        while True:
            try:
                subscription: Any
                async with cast("Any", self._client).pubsub() as subscription:
                    await subscription.subscribe(self.channel)
                    for hint in self._hints.values():
                        hint.set()
                    async for message in subscription.listen():
                        if message["type"] == "message" and (hint := self._hints.get(message["data"].decode())):
                            hint.set()
            except TROUBLE as problem:
                _log.warning("answers.subscription_lost", error=str(problem))
                await asyncio.sleep(0.5)
