"""What tests of engines ask."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from llm.engine import Generation
from schemas.inference import ChatMessage


class Finish(msgspec.Struct, tag="finish", tag_field="tool"):
    answer: Annotated[str, Meta(max_length=60)]


class ReadFile(msgspec.Struct, tag="read_file", tag_field="tool"):
    path: Annotated[str, Meta(max_length=60)]


class ListDirectory(msgspec.Struct, tag="list_directory", tag_field="tool"):
    path: Annotated[str, Meta(max_length=60)]


class Act(msgspec.Struct):
    """One action of several kinds, as a step's loop asks for them."""

    thought: Annotated[str, Meta(max_length=80)]
    action: Finish | ReadFile | ListDirectory


def ask(text: str, *, tokens: int = 40, timeout: float = 120.0, schema: dict[str, Any] | None = None) -> Generation:
    return Generation((ChatMessage("system", "Be brief."), ChatMessage("user", text)), tokens, timeout, schema)
