"""What chat programs ask beside the conversation: titles, tags, follow-ups. That is one question to a model, or, where
none answers in time, a rule's matter; never a run."""

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import msgspec

from deploy.victoria import Victoria
from gateway.call import call
from gateway.http.openai.bodies import Said, Usage
from gateway.shape import Shaped
from llm.prompts import excerpt
from schemas.errors import VictoriaError
from schemas.inference import Question

WITHIN = 20.0
"""Seconds for which a model may take: a program waits for the title of what its user has read already."""
SYSTEM = "You do one small task for a chat program. Answer with what the task asks for, and nothing else."
LOOKED_AT = 16_000
"""Characters in which a prompt shows what it is: the conversation that it quotes comes behind."""
ASKED_CHARACTERS, ANSWER_TOKENS = 6_000, 200
WORDS, FEWEST = 6, "New chat"
LINE = 60
"""Characters of the conversation's first words."""
Reply = str | dict[str, str | list[str]]

_SPACES = re.compile(r"\s+")
_QUOTED = re.compile(r"(?:<chat_history>|conversation:|^---)(.*)", re.DOTALL | re.IGNORECASE | re.MULTILINE)
_SPEAKER = re.compile(r"^\W*(?:user|human)\W*[:：]\s*", re.IGNORECASE)


class Aside(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one kind of request is told, and what it gets by rule. See asides.toml."""

    name: str
    reply: Reply
    begins: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    has: tuple[str, ...] = ()

    def is_meant(self, last: str, setting: str) -> bool:
        """Whether a request with these, in small letters and single spaces, is one of this kind."""
        told = last.startswith(self.begins) or setting.startswith(self.system)
        return told and all(each in last for each in self.has)


class Replied(NamedTuple):
    """What is said, and what it cost, None where no model was asked."""

    text: str
    usage: Usage | None


def recognised(messages: Sequence[Said]) -> Aside | None:
    """The kind of aside that a conversation's last message is, if it is one."""
    last = _plain(messages[-1].text)
    setting = _plain(next((each.text for each in messages if each.role == "system"), ""))
    return next((each for each in _known() if each.is_meant(last, setting)), None)


async def replied(victoria: Victoria, aside: Aside, messages: Sequence[Said]) -> Replied:
    """A model's answer, held to the shape that is wanted; else the rule's."""
    question = _question(aside, messages)
    with anyio.move_on_after(WITHIN):
        try:
            called = await call(victoria, question, None, lambda _: None, serving=False, patience=0)
        except VictoriaError:
            return Replied(by_rule(aside, messages), None)
        answer, usage = called.answer, called.usage
        text = answer if isinstance(answer, str) else msgspec.json.encode(answer).decode()
        return Replied(text, Usage.of(usage.tokens_in, usage.tokens_out, usage.cached))
    return Replied(by_rule(aside, messages), None)


def by_rule(aside: Aside, messages: Sequence[Said]) -> str:
    """What is said without a model."""
    words = _first_words(messages)
    if isinstance(aside.reply, str):
        return aside.reply.replace("WORDS", words)
    filled = {key: words if said == "WORDS" else said for key, said in aside.reply.items()}
    return msgspec.json.encode(filled).decode()


def _question(aside: Aside, messages: Sequence[Said]) -> Question[Any]:
    """The request as it came, at the end of what was said before it. All of it is data."""
    asked = excerpt("\n\n".join(each.text for each in messages if each.text), ASKED_CHARACTERS)
    if isinstance(aside.reply, str):
        return Question(SYSTEM, asked, str, ANSWER_TOKENS)
    text: dict[str, Any] = {"type": "string", "maxLength": 200}
    several: dict[str, Any] = {"type": "array", "items": text, "maxItems": 5}
    fields = {key: text if isinstance(said, str) else several for key, said in aside.reply.items()}
    shape = {"type": "object", "properties": fields, "required": [*fields], "additionalProperties": False}
    return Shaped(SYSTEM, asked, object, ANSWER_TOKENS, shape=shape)


def _first_words(messages: Sequence[Said]) -> str:
    """The first words a user said: in what the last message quotes, or before it."""
    quoted = _QUOTED.search(messages[-1].text[:LOOKED_AT])
    earlier = next((each.text for each in messages[:-1] if each.role == "user"), "")
    said = (quoted[1] if quoted else earlier or messages[-1].text).strip()
    line = _SPEAKER.sub("", said.partition("\n")[0]).partition("</chat_history>")[0]
    return " ".join(line.split()[:WORDS])[:LINE].strip() or FEWEST


def _plain(text: str) -> str:
    return _SPACES.sub(" ", text[:LOOKED_AT]).strip().casefold()


@cache
def _known() -> tuple[Aside, ...]:
    table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    return msgspec.convert(table["aside"], tuple[Aside, ...])
