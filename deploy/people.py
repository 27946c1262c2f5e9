"""Who plans and who works, by these settings: Victoria's own strategies and experts, and the user's."""

from consumers.experts import FOLDER
from consumers.roster import Folders
from consumers.strategies.registry import Strategies, built_in, in_folder
from consumers.tools.registry import Registry
from deploy.settings import Settings


def strategies(settings: Settings) -> Strategies:
    """All strategies. Raises CouldNotStart `strategy.broken`."""
    return Strategies.of([*built_in(), *in_folder(settings.strategies_dir)])


def experts(settings: Settings, tools: Registry, known: Strategies) -> Folders:
    """All experts; one that names a tool or a strategy which is not among these is a problem of the roster."""
    return Folders(FOLDER, settings.experts_dir, strategies=known.by_name, tools=tools.names)
