"""What OpenAI's clients send and get. What they send beyond these fields is ignored."""

import re
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from schemas.errors import InvalidInput

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
NO_TEXT = "Victoria reads text only; put other material into a file of the project and name the file."
_THOUGHTS = re.compile(r'<(details|think)(?: type="reasoning"[^>]{0,200})?>.*?</\1>', re.DOTALL)
"""What clients show of an answer's progress, and some send back in front of the answer."""


class Said(NamedTuple):
    """One message as it counts: who said it, and its text."""

    role: str
    text: str


class Part(msgspec.Struct, frozen=True):
    """One part of a message."""

    type: str
    text: str = ""


class ChatMessage(msgspec.Struct, frozen=True):
    """One message of a conversation."""

    role: Role
    content: str | tuple[Part, ...] | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    """How a stream is to be."""

    include_usage: bool | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/chat/completions`.

    `tools` are ignored: Victoria has its own, and calls none of its caller's. So are `max_tokens`, which would bound an
    answer and not the work that leads to it, and how a model is to be sampled; another `seed` is another attempt.
    """

    model: str
    messages: tuple[ChatMessage, ...]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    tool_choice: Any = None
    function_call: Any = None
    response_format: Any = None
    user: str | None = None
    safety_identifier: str | None = None
    seed: int | None = None

    def heard(self) -> tuple[Said, ...]:
        """The messages as they count. Raises InvalidInput where one can't be read."""
        if not self.messages:
            raise InvalidInput("messages.empty", "messages is empty.", "Send at least one message of a user.")
        return tuple(
            Said("system" if message.role == "developer" else message.role, _text(message, f"messages[{number}]"))
            for number, message in enumerate(self.messages)
        )

    def check(self) -> None:
        """See that nothing is asked for that can't be. Raises InvalidInput."""
        if self.n and self.n > 1:
            raise InvalidInput("n.unsupported", "n is more than 1: a run has one answer.", "Leave n out.")
        for field in ("tool_choice", "function_call"):
            if getattr(self, field) not in (None, "auto", "none"):
                hint = f"Victoria calls its own tools, none of its caller's. Leave {field} out."
                raise InvalidInput(f"{field}.unsupported", f"{field} can't be kept to.", hint)
        wanted: Any = self.response_format
        if isinstance(wanted, dict) and wanted.get("type", "text") != "text":  # pyright: ignore[reportUnknownMemberType]
            hint = "A run's answer is text; say in the message what it should look like."
            raise InvalidInput("response_format.unsupported", "response_format can't be kept to.", hint)


def _text(message: ChatMessage, where: str) -> str:
    match message.content:
        case None:
            text = ""
        case str(text):
            pass
        case parts:
            for part in parts:
                if part.type not in ("text", "refusal"):
                    what = f"{where} has a part of the type {part.type[:40]!r}."
                    raise InvalidInput("messages.unsupported", what, NO_TEXT)
            text = "\n".join(part.text for part in parts)
    text = text.strip()
    while message.role == "assistant" and (thoughts := _THOUGHTS.match(text)):
        text = text[thoughts.end() :].strip()
    return text


class Cached(msgspec.Struct, frozen=True):
    """Of the tokens read, those that engines had in memory."""

    cached_tokens: int


class Usage(msgspec.Struct, frozen=True):
    """The tokens that all models' answers of a run took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: Cached

    @classmethod
    def of(cls, tokens_in: int, tokens_out: int, cached: int) -> "Usage":
        """These."""
        return cls(tokens_in, tokens_out, tokens_in + tokens_out, Cached(cached))


Finish = Literal["stop", "length"]
"""Why an answer ends: it is whole, or a limit of the run was reached."""


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a chunk adds. `reasoning_content` is how the run goes on, which many clients show beside the answer."""

    role: str = ""
    content: str | msgspec.UnsetType = msgspec.UNSET
    reasoning_content: str = ""


class ChunkChoice(msgspec.Struct, frozen=True):
    """The one choice of a chunk."""

    delta: Delta
    finish_reason: Finish | None = None
    index: int = 0
    logprobs: None = None


class Chunk(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="object", tag="chat.completion.chunk"):
    """One piece of a streamed answer; the last one has the usage, where it was asked for, and no choice."""

    id: str
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | None = None


class Turn(msgspec.Struct, frozen=True):
    """What an assistant says."""

    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class Choice(msgspec.Struct, frozen=True):
    """The one choice of an answer."""

    message: Turn
    finish_reason: Finish
    index: int = 0
    logprobs: None = None


class Completion(msgspec.Struct, frozen=True, tag_field="object", tag="chat.completion"):
    """A whole answer. `usage` is None of a question that a step asks: its run's cost is known at its end."""

    id: str
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: Usage | None


class Model(msgspec.Struct, frozen=True, tag_field="object", tag="model"):
    """Something to talk to. `name` and `description` are for people."""

    id: str
    created: int
    owned_by: str
    name: str
    description: str


class Models(msgspec.Struct, frozen=True, tag_field="object", tag="list"):
    """All there is to talk to."""

    data: tuple[Model, ...]
