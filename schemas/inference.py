"""What a model is asked and what it answers, whatever engine runs it."""

from dataclasses import dataclass, replace
from functools import cache
from math import inf
from typing import Any, Generic, Literal, TypeVar

import msgspec

from schemas.plan import Usage

T = TypeVar("T")
Priority = Literal["interactive", "background"]
PRIORITIES: tuple[Priority, ...] = ("interactive", "background")


_FORM = "Answer with JSON that follows this schema, and nothing else:"


class ChatMessage(msgspec.Struct, frozen=True):
    """One message of a prompt."""

    role: Literal["system", "user"]
    content: str


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """One question with the type of its answer: `str` for free text, any msgspec type for JSON of that schema.

    `system` is byte-identical for every question of a kind, so that engines reuse its prefix; whatever users, tools
    or models said stands in `user`, delimited as data. `max_tokens` bounds the answer. `step` is the plan's step that
    it is about, for those who follow the answer as it comes. `patience` is for how many seconds it waits for a model
    to be there at all, inf for as long as the worker lets it. One that `outlives_run` is answered after that has ended.
    `model` is the one that the run is to be done with, "" for any.
    """

    system: str
    user: str
    answer: type[T]
    max_tokens: int = 256
    priority: Priority = "interactive"
    step: str = ""
    patience: float = inf
    outlives_run: bool = False
    model: str = ""

    @property
    def schema(self) -> dict[str, Any] | None:
        """JSON schema of the answer; None for free text."""
        return None if self.answer is str else _schema(self.answer)

    @property
    def messages(self) -> tuple[ChatMessage, ChatMessage]:
        """The prompt: what never changes first, for engines' prefix caches, and by that the schema, since not every
        engine holds its model to it."""
        schema = self.schema
        system = self.system if schema is None else f"{self.system}\n\n{_FORM}\n{msgspec.json.encode(schema).decode()}"
        return ChatMessage("system", system), ChatMessage("user", self.user)

    def parse(self, text: str) -> T:
        """The typed answer. Raises msgspec.ValidationError (or DecodeError, its base) with what is wrong."""
        if self.answer is str:
            if not text.strip():
                raise msgspec.ValidationError("the answer is empty")
            return msgspec.convert(text.strip(), self.answer)
        return msgspec.json.decode(text, type=self.answer)

    def repaired(self, text: str, problem: str) -> "Question[T]":
        """The same question once more, with the rejected answer (cut to 1,000 characters) and what was wrong."""
        note = f"\n\nYour last answer was rejected: {problem}\n<rejected>\n{text[:1000]}\n</rejected>\nAnswer again."
        return replace(self, user=self.user + note)


@cache
def _schema(answer: type) -> dict[str, Any]:
    return msgspec.json.schema(answer)


class Answer(msgspec.Struct, frozen=True):
    """An engine's reply as text, with what it cost."""

    text: str
    usage: Usage
