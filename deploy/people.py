"""Who plans and who works, by these settings: Victoria's own strategies and experts, and the user's."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches

from consumers.answer_cache import staff_of
from consumers.experts.expert import FOLDER
from consumers.experts.roster import Folders, Roster
from consumers.strategies.registry import Strategies, built_in, in_folder
from consumers.tools.registry import Registry
from deploy.settings import Settings
from deploy.tools import registry
from schemas.errors import InvalidInput


def strategies(settings: Settings) -> Strategies:
    """All strategies. Raises CouldNotStart `strategy.broken`."""
    return Strategies.of([*built_in(), *in_folder(settings.strategies_dir)])


def experts(settings: Settings, tools: Registry, known: Strategies) -> Folders:
    """All experts; one that names a tool or a strategy which is not among these is a problem of the roster."""
    return Folders(FOLDER, settings.experts_dir, strategies=known.by_name, tools=tools.names)


def staff_now(folders: Folders | None, known: Strategies, tools: Registry, *also: str) -> Callable[[], str]:
    """Tells the hash of all who may have a part in an answer, made anew only where an expert's file has changed."""
    nobody, made = Roster(()), list[tuple[Roster, str]]()

    def staff() -> str:
        roster = folders.roster() if folders else nobody
        if not made or made[-1][0] is not roster:
            made[:] = [(roster, staff_of(roster, known, tools, *also))]
        return made[-1][1]

    return staff


def require(settings: Settings, strategy: str, expert: str) -> None:
    """See that a strategy and an expert that are wanted are there; "" is whatever fits.

    Raises InvalidInput `strategy.unknown`, `expert.unknown`, CouldNotStart `strategy.broken`.
    """
    known = strategies(settings)
    if strategy and strategy not in known.by_name:
        raise InvalidInput("strategy.unknown", *_unknown("strategy", strategy, known.by_name))
    if expert:
        people = experts(settings, registry(settings), known).roster().experts
        if expert not in people:
            raise InvalidInput("expert.unknown", *_unknown("expert", expert, people))


def _unknown(what: str, name: str, known: Iterable[str]) -> tuple[str, str]:
    near = get_close_matches(name, known, 1)
    hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(known)}."
    return f"No {what} is called {name[:80]!r}.", hint
