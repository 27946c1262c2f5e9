"""The contract of a tool: typed arguments that a model can fill in, and what to do with them."""

from abc import ABCMeta, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from consumers.tools.workspace import Workspace
from streams.stage import Effects

Thought = Annotated[str, Meta(max_length=300)]
PathName = Annotated[str, Meta(max_length=200)]


class _AbstractStruct(msgspec.StructMeta, ABCMeta):
    """Makes records that may have abstract methods."""


class ToolArguments(
    msgspec.Struct, metaclass=_AbstractStruct, frozen=True, tag_field="tool", forbid_unknown_fields=True
):
    """Base of every tool's arguments. A subclass is a tool: its `tag` is the name, the rest stands in it.

    `thought` is the model's reason for the call (at most 300 characters), "" where rules made it.
    """

    description: ClassVar[str]
    """What it does, for the prompt: one short line."""
    effects: ClassVar[Effects] = "none"

    thought: Thought

    @property
    def name(self) -> str:
        """The tool's name."""
        return str(self.__struct_config__.tag)

    def without_thought(self) -> Self:
        """The same call, so that two calls made for different reasons compare equal."""
        return replace(self, thought="")

    @abstractmethod
    async def run(self, workspace: Workspace) -> str:
        """Do it; the observation as text. Raises ToolRefused."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool as data. `run(arguments, workspace)` gives the observation as text, or raises ToolRefused."""

    name: str
    description: str
    arguments: type[ToolArguments]
    effects: Effects
    run: Callable[[Any, Workspace], Awaitable[str]]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its arguments, `thought` left out."""
        return tuple(name for name in self.arguments.__struct_fields__ if name != "thought")

    @classmethod
    def of(cls, arguments: type[ToolArguments]) -> "Tool":
        """The tool that a subclass of ToolArguments describes."""
        return cls(
            name=str(arguments.__struct_config__.tag),
            description=arguments.description,
            arguments=arguments,
            effects=arguments.effects,
            run=arguments.run,
        )
