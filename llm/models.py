"""What a back end says of a model it can run."""

from typing import Literal

import msgspec

Capability = Literal["schema", "tools", "vision", "thinking"]
"""`schema`: its engine holds answers to a JSON schema; without it, a schema is a wish."""


class Model(msgspec.Struct, frozen=True):
    """One model at one place.

    `engine` is the back end's name and `node` the server's `host:port`, empty for engines in this process. `size` is
    the weights' bytes, `context` the tokens it was trained for (0: unknown). `loaded` says whether it is in memory
    now, and `loaded_context` with how many tokens of context.
    """

    engine: str
    node: str
    name: str
    size: int
    context: int
    loaded: bool = False
    loaded_context: int = 0
    capabilities: frozenset[Capability] = frozenset()
