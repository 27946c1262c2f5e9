"""A goal of two steps with a tool between them, and what a scripted model says to it, whenever it is asked."""

from collections.abc import Mapping
from typing import Any

from tests.rows.house import Says, act, decomposition, finish, step

GOAL = "Investigate the folder docs, then say what it means"
SAID = "All in all: alpha."


def loop(asked: Any) -> Any:
    """A look, then the end."""
    if "list_directory:" not in asked.user:
        return act("list_directory", path="docs")
    return finish("Because." if "Say why." in asked.user else "There is alpha.")


SAYS: Mapping[str, Says] = {
    "understand": {"restated": "?", "category": "multi_step", "first_step": ""},
    "decompose": decomposition(step("1", "Look into it."), step("2", "Say why.", "backend", "1")),
    "act": loop,
    "fuse": SAID,
}
