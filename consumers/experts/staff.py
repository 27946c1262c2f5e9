"""Who is there at one moment, as planners see it: experts with their loads, and whose words a goal has."""

from collections.abc import Awaitable, Callable, Mapping
from difflib import get_close_matches
from types import MappingProxyType

import msgspec

from consumers.experts.roster import Roster
from consumers.strategies.strategy import Colleague
from consumers.words.routing import router

Loads = Callable[[], Awaitable[dict[str, float]]]
"""How busy experts and agents are, by name, from 0 to 1."""


class Staff(msgspec.Struct, frozen=True):
    """All colleagues, and the names of those whose words a goal has, most first. It stands in the run's journal: a
    replay plans with it, whatever became of the experts' files."""

    colleagues: tuple[Colleague, ...] = ()
    claimed: tuple[str, ...] = ()

    def named(self, name: str) -> Colleague | None:
        """The colleague of this name."""
        return next((each for each in self.colleagues if each.name == name), None)

    def unknown(self, name: str) -> str:
        """What to say of a name that nobody has."""
        near = get_close_matches(name, [each.name for each in self.colleagues], 1)
        return f"No expert is called {name[:80]!r}." + (f" Did you mean {near[0]}?" if near else "")


async def idle() -> dict[str, float]:
    """Nobody is busy."""
    return {}


class Office:
    """Looks who is there: experts, and the loads they have right now."""

    def __init__(self, experts: Callable[[], Roster], loads: Loads = idle) -> None:
        self._experts, self._loads = experts, loads

    async def look(self, goal: str, _key: str) -> Staff:
        """Who is there for this goal; an action for a stage's context. Raises what reading the loads does."""
        roster = self._experts()
        return Staff(colleagues(roster, await self._loads()), router(roster).claimed(goal))


def colleagues(roster: Roster, loads: Mapping[str, float] = MappingProxyType({})) -> tuple[Colleague, ...]:
    """All experts of a roster as planners see them."""
    return tuple(
        Colleague(
            name=expert.name,
            title=expert.title,
            department=expert.department,
            rank=expert.rank,
            strategy=expert.strategy,
            capabilities=expert.capabilities,
            load=loads.get(expert.name, 0),
        )
        for expert in roster.experts.values()
    )
