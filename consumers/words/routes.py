"""Routing decisions, remembered: made anew only when an expert's file has changed."""

from collections.abc import Callable
from functools import lru_cache

from consumers.experts.roster import Roster
from consumers.words.findings import Routed
from schemas.events import Exchange

REMEMBERED = 4_096
"""Decisions kept."""
LONGEST = 500
"""Characters of a goal up to which its decision is kept."""


Route = Callable[[str, tuple[Exchange, ...], str], Routed]


class Routes:
    """Where goals go, by the experts there are now."""

    def __init__(self, experts: Callable[[], Roster]) -> None:
        self._experts = experts
        self._made: tuple[Roster, Route] | None = None

    def route(
        self, goal: str, history: tuple[Exchange, ...] = (), sticky: str = "", roster: Roster | None = None
    ) -> Routed:
        """Where a goal goes, by default by the roster of now. See Router.route."""
        from consumers.words.routing import router  # late: it reads thousands of words

        roster = roster or self._experts()
        if self._made is None or self._made[0] is not roster:
            self._made = roster, _remembering(router(roster).route)
        return self._made[1](goal, history[-1:], sticky)

    def roster(self) -> Roster:
        """Who is there now."""
        return self._experts()


def _remembering(decide: Route) -> Route:
    remembered = lru_cache(REMEMBERED)(decide)

    def route(goal: str, history: tuple[Exchange, ...], sticky: str) -> Routed:
        short = len(goal) + sum(len(turn.user) for turn in history) <= LONGEST
        return (remembered if short else decide)(goal, history, sticky)

    return route
