"""What a handler can do with its run's limits: a part of its Context (stage.py)."""

from typing import Protocol

from schemas.plan import Limits


class Limited(Protocol):
    """Questions keep to the limits by themselves; this is for work that is given to others."""

    @property
    def limits(self) -> Limits | None:
        """What the run may cost; None for anything."""
        ...

    async def reserve(self, name: str, tokens: int) -> int:
        """Reserve up to `tokens` of the run's, and a call of a model; how many, 0 where nothing is left."""
        ...

    async def spend(self, name: str, tokens: int, calls: int) -> None:
        """Say what the work cost for which tokens were reserved under this name."""
        ...
