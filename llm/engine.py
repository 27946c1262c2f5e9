"""The contract every engine fulfils: one request in, one answer or one typed failure out."""

import re
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from schemas.errors import ModelFailed
from schemas.inference import Answer, ChatMessage
from schemas.plan import Usage

OnText = Callable[[str], None]
"""Told each piece of an answer's text as it comes, in the event loop, before `generate` ends."""

_CONTROL = re.compile(r"<(?=[|｜]|(?:start|end)_of_turn>)|\[(?=/?INST\])")


class Generation(msgspec.Struct, frozen=True):
    """What an engine is asked for.

    `schema` is the JSON schema the text must follow, None for free text. `max_tokens` bounds the answer; free text
    may end there in mid-sentence. `timeout` is in seconds from the call, waiting for a slot included.
    """

    messages: tuple[ChatMessage, ...]
    max_tokens: int
    timeout: float
    schema: dict[str, Any] | None = None

    def chat(self) -> list[dict[str, str]]:
        """The messages as chat APIs take them, with control tokens defused.

        Chat templates read `<|im_end|>` and its like wherever they stand, so a user's text could otherwise end its own
        message and speak as the system. Their first character becomes `‹`.
        """
        return [{"role": m.role, "content": _CONTROL.sub("‹", m.content)} for m in self.messages]


class Engine(Protocol):
    """Something that runs a model.

    `name` is the back end's (`local`, `ollama`, `mlx`), `model` what people call the model, `context` the tokens that
    one prompt and its answer may have together, `slots` how many requests it works on at once: give it more and they
    wait inside `generate`.
    """

    @property
    def name(self) -> str:
        """The back end's name."""
        ...

    @property
    def model(self) -> str:
        """The model's display name."""
        ...

    @property
    def context(self) -> int:
        """Tokens for one prompt with its answer."""
        ...

    @property
    def slots(self) -> int:
        """Requests worked on at once."""
        ...

    async def generate(self, request: Generation, on_text: OnText | None = None) -> Answer:
        """Answer one request. `on_text` is told each piece of the text as it comes; what it raises ends the request.

        Raises schemas.errors.ModelFailed with code `model.overflow` (prompt and answer don't fit the context; nothing
        is ever cut silently), `model.timeout`, `model.cut` (JSON was asked for and `max_tokens` ended it early),
        `model.refused` (it makes nothing of this request) or `model.engine` (anything else, the engine's own words in
        the message). Engines that are asked over a network have more codes: see schemas.advice.
        """
        ...

    async def close(self) -> None:
        """Stop what runs and free the model. Closing twice is fine; asking afterwards fails with `model.engine`."""
        ...


def too_slow(who: str, seconds: float) -> ModelFailed:
    """`who` did not answer in the time its request gave it."""
    said = f"{who} did not answer within {seconds:g} s."
    return ModelFailed("model.timeout", said, "Give it more time, ask for less, or use a faster model.")


def cut_short(what: str, usage: Usage) -> ModelFailed:
    """`what` was not whole when the answer's tokens were used up."""
    said = f"{usage.model} had not finished {what} after {usage.tokens_out} tokens."
    return ModelFailed("model.cut", said, "Allow more tokens, or give the answer's texts a maximum length.", usage)


def no_room(who: str, context: int) -> ModelFailed:
    """Prompt and answer don't fit the context."""
    said = f"The prompt and its answer are longer than the {context} tokens {who} has room for."
    return ModelFailed("model.overflow", said, "Shorten the goal or its inputs, or use a model with a larger context.")
