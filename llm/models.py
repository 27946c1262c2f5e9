"""Models: what back ends say of those they can run, and what people say of those they want."""

import re
from pathlib import PurePath
from typing import Literal

import msgspec

from schemas.errors import ErrorInfo

Capability = Literal["schema", "tools", "vision", "thinking"]
"""`schema`: its engine holds answers to a JSON schema; without it, a schema is a wish."""

BreakerState = Literal["closed", "open", "half-open"]
"""`closed`: it works. `open`: it failed, and is left alone for a while. `half-open`: it is being tried."""

Backend = Literal["ollama", "mlx", "local"]
BACKENDS: tuple[Backend, ...] = ("ollama", "mlx", "local")
"""In the order in which they are asked where nothing else decides."""


class Model(msgspec.Struct, frozen=True):
    """One model at one place.

    `engine` is the back end's name and `node` the server's `host:port`, empty for engines in their consumer's process.
    `size` is the weights' bytes, `context` the tokens that a prompt and its answer may have (0: unknown). `loaded` says
    whether it is in memory now, and `loaded_context` with how many tokens of context.
    """

    engine: str
    node: str
    name: str
    size: int
    context: int
    loaded: bool = False
    loaded_context: int = 0
    capabilities: frozenset[Capability] = frozenset()


class Offer(msgspec.Struct, frozen=True):
    """A model that an inference consumer asks for whoever wants: with its breaker, the questions it works on, and how
    many it takes at once (its node's slots, shared by the node's models)."""

    model: Model
    slots: int
    in_flight: int = 0
    state: BreakerState = "closed"
    error: ErrorInfo | None = None
    """What opened the breaker."""


class Fault(msgspec.Struct, frozen=True):
    """A node whose models are not known, and why."""

    node: str
    error: ErrorInfo


class Wish(msgspec.Struct, frozen=True):
    """Which model is wanted: of one back end, of one name, or any. `engine` "none" wants no model at all."""

    engine: Literal["", "ollama", "mlx", "local", "none"] = ""
    model: str = ""

    @classmethod
    def parse(cls, text: str) -> "Wish":
        """`auto`, `none`, `local`, `mlx`, `ollama`, one of the three and `:` and a model, or a model's name alone.

        Of files and folders, which `local:` and `mlx:` may name, the model's name is taken.
        """
        if text == "auto":
            return cls()
        if text == "none":
            return cls("none")
        head, _, name = text.partition(":")
        for engine in BACKENDS:
            if head == engine:
                return cls(engine, name if engine == "ollama" else display_name(name))
        return cls("", text)

    def accepts(self, model: Model) -> bool:
        """Whether this is the model that is wanted."""
        return self.engine in ("", model.engine) and (not self.model or full_name(self.model) == full_name(model.name))

    def __str__(self) -> str:
        return ":".join(filter(None, (self.engine, self.model))) or "any model"


def full_name(name: str) -> str:
    """Names of Ollama's models without a tag mean `:latest`."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def display_name(path: str) -> str:
    """`/models/SmolLM2-135M-Instruct.Q4_1.gguf` is called SmolLM2-135M-Instruct; a folder by its name."""
    name = PurePath(path).name
    if not name.lower().endswith(".gguf"):
        return name
    return re.sub(r"[.-](?:I?Q\d\w*|B?F(?:16|32))$", "", name[: -len(".gguf")], flags=re.IGNORECASE)
