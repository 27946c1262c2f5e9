"""The contract of a tool: typed arguments that a model can fill in, and what to do with them.

A new tool is one file: a subclass of ToolArguments, beside this file or in the folder of the user's own tools
(`tools_dir`). The registry finds it; nothing else changes.
"""

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal, Self

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from consumers.store import Store, id_of
from consumers.tools.allowed import Allowed
from consumers.tools.workspace import Workspace
from schemas.errors import ToolRefused
from streams.stage import Effects

Thought = Annotated[str, Meta(max_length=300)]
PathName = Annotated[str, Meta(max_length=200)]
Argv = Annotated[tuple[Annotated[str, Meta(max_length=1_000)], ...], Meta(min_length=1, max_length=32)]
"""A program's name and its arguments, each as it is: no shell reads them."""


class Asked(Exception):
    """Raised by a tool that can't go on before a person answers: its step has to wait. Not an error.

    An empty `choices` lets them answer as they like. With `approval` it is asked whether the call may be made at all;
    otherwise the answer is what the call gives.
    """

    def __init__(self, question: str, choices: tuple[str, ...] = (), *, approval: bool = False) -> None:
        super().__init__(question)
        self.question, self.choices, self.approval = question, choices, approval


class Missing(Exception):
    """Raised by a tool that says what its expert can't do: its step is for another. Not an error."""

    def __init__(self, capability: str, reason: str = "") -> None:
        super().__init__(capability)
        self.capability, self.reason = capability, reason


class Look(msgspec.Struct, frozen=True):
    """How a person is shown a tool's use: a label, and the kind of what it gives."""

    label: str = ""
    shows: Literal["text", "listing", "terminal", "links", "question"] = "text"


@dataclass(frozen=True, slots=True)
class Site:
    """Where one call of a tool acts, and within what limits.

    `key` and `now`, which is in the user's time zone, are the same when the same call is done again.
    """

    workspace: Workspace
    allowed: Allowed = field(default_factory=Allowed)
    key: str = ""
    now: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    store: Store | None = None

    @property
    def records(self) -> Store:
        """What is kept for the project. Raises ToolRefused `store.none`."""
        if self.store is None:
            raise ToolRefused("store.none", "Nothing can be kept here: there is no store.", "Go on without.")
        return self.store

    @property
    def new_id(self) -> str:
        """The id of the record that this call makes, the same when it is done again."""
        return id_of(self.key)


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
    capability: ClassVar[str] = ""
    """What kind of work it is part of, as profiles and delegation name it; "" for any."""
    effects: ClassVar[Effects] = "none"
    approval: ClassVar[bool] = False
    """Whether a person has to agree to each call: for what changes things outside."""
    again: ClassVar[bool] = False
    """Whether a call can be made again just to see if what it gave still holds: it acts nowhere, is quick, and gives
    the same as long as the project's files are the same. Only answers that rest on nothing else may be given again."""
    commands: ClassVar[tuple[str, ...]] = ()
    """What people type in a chat to use it themselves, as in `/read PATH`."""
    look: ClassVar[Look] = Look()
    general: ClassVar[bool] = True
    """Whether any expert may use it; otherwise only those do who name it."""

    thought: Thought

    @property
    def name(self) -> str:
        """The tool's name."""
        return str(self.__struct_config__.tag)

    def without_thought(self) -> Self:
        """The same call, so that two calls made for different reasons compare equal."""
        return replace(self, thought="")

    def policy(self) -> Effects:
        """What this very call may change: no more than the tool's `effects`."""
        return self.effects

    @classmethod
    def missing(cls, _allowed: Allowed) -> str:
        """Why the tool can't be offered under these settings; "" if it can."""
        return ""

    @abstractmethod
    async def run(self, site: Site) -> str:
        """Do it; the observation as text. Raises ToolRefused, Asked, or Missing."""
