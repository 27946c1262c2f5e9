"""The feed of a run: a model's text as it comes, for whoever follows."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import anyio
import structlog

from llm.engine import OnText
from schemas.envelope import Envelope, derived_id, encode
from schemas.events import AnswerProgressed
from streams.connection import TROUBLE, Client
from streams.keys import Keys

FLUSH_EVERY = 0.1
"""Seconds between pieces on the feed: a reader's eye is no faster."""
ENTRIES, KEEP = 5_000, 3_600
"""A feed's length, about, and the seconds it lives after its last piece: the answer itself is in the journal."""

_log: Any = structlog.get_logger()


class Feed:
    """One answer's text on its way to the feed. `begin` for each engine that tries; `run` beside it, then `flush`."""

    def __init__(self, client: Client, keys: Keys, run_id: str, effect: str, step: str) -> None:
        self._client: Any = client
        self._key, self._run, self._effect, self._step = keys.feed(run_id), run_id, effect, step
        self._offset, self._text = 0, ""
        self._sending = anyio.Lock()

    def begin(self) -> OnText:
        """An engine begins; what another one said before it gave up is void."""
        self._offset, self._text = 0, ""
        return self._add

    def _add(self, text: str) -> None:
        self._text += text

    async def run(self) -> None:
        """Send what has come, from time to time, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            await self.flush()

    async def flush(self) -> None:
        """Send what has come, after what is being sent. Without the server it is lost: nothing depends on it."""
        async with self._sending:
            if self._text:
                await self._send()

    async def _send(self) -> None:
        text, offset = self._text, self._offset
        self._text, self._offset = "", offset + len(text)
        body = AnswerProgressed(effect=self._effect, offset=offset, text=text, step=self._step)
        envelope = Envelope(
            id=derived_id(self._effect, str(offset)),
            run=self._run,
            v=body.version,
            at=datetime.now(UTC),
            trust="model",
            body=body,
        )
        entry = {"type": type(body).__name__, "event": encode(cast("Any", envelope))}
        try:
            pipeline = self._client.pipeline(transaction=True)
            pipeline.xadd(self._key, entry, maxlen=ENTRIES, approximate=True)
            pipeline.expire(self._key, KEEP)
            await pipeline.execute()
        except TROUBLE as problem:
            _log.debug("feed.not_sent", run=self._run, error=str(problem))
