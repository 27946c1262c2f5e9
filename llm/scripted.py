"""A fake engine for tests: it runs no model."""

import re
from collections.abc import Awaitable, Callable, Sequence

import anyio

from llm.engine import Generation, OnText
from schemas.errors import ModelFailed
from schemas.inference import Answer
from schemas.plan import Usage

Reply = str | Exception
"""What the script says next: a text to answer with, or an exception to raise."""


class ScriptedEngine:
    """A fake, deterministic engine for tests: it says what its script tells it and never runs a model.

    `script` is a function from the request to a reply, or replies used up in order (asking for more than there are
    fails with `model.engine`). `delay` seconds pass before each reply; a delay beyond the request's `timeout` fails
    with `model.timeout`. Every request is kept in `requests`. Tokens are counted as words, and text comes word by word,
    one each `pace` seconds; `between` is awaited before each.
    """

    name = "scripted"
    model = "scripted"
    context = 4096

    def __init__(
        self,
        script: Callable[[Generation], Reply] | Sequence[Reply],
        *,
        slots: int = 4,
        delay: float = 0.0,
    ) -> None:
        self.slots, self.delay, self.pace = slots, delay, 0.0
        self.requests: list[Generation] = []
        self.closed = False
        self.between: Callable[[], Awaitable[None]] | None = None
        self.script = script
        self._free = anyio.Semaphore(slots)

    async def generate(self, request: Generation, on_text: OnText | None = None) -> Answer:
        """The script's next reply."""
        if self.closed:
            raise ModelFailed("model.engine", "The engine is closed.", "Start it again.")
        self.requests.append(request)
        number = len(self.requests) - 1
        try:
            with anyio.fail_after(request.timeout):
                async with self._free:
                    await anyio.sleep(self.delay)
        except TimeoutError:
            raise ModelFailed(
                "model.timeout", f"The script takes {self.delay} s.", "Raise the test's timeout."
            ) from None
        reply = self._reply(request, number)
        if isinstance(reply, Exception):
            raise reply
        if on_text:
            for word in re.findall(r"\s*\S+|\s+", reply):
                if self.between:
                    await self.between()
                on_text(word)
                await anyio.sleep(self.pace)
        words_in = sum(len(m.content.split()) for m in request.messages)
        usage = Usage(self.model, 1, tokens_in=words_in, tokens_out=len(reply.split()), seconds=self.delay)
        return Answer(reply, usage)

    async def close(self) -> None:
        """Refuse further requests."""
        self.closed = True

    def _reply(self, request: Generation, number: int) -> Reply:
        if callable(self.script):
            return self.script(request)
        if number < len(self.script):
            return self.script[number]
        return ModelFailed("model.engine", f"The script has only {number} replies.", "Add one to the test.")
