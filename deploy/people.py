"""Who plans and who works, by these settings: Victoria's own strategies and experts, and the user's."""

from consumers.experts import FOLDER
from consumers.roster import Folders
from consumers.strategies.registry import Strategies, built_in, in_folder
from deploy.settings import Settings


def strategies(settings: Settings) -> Strategies:
    """All strategies. Raises CouldNotStart `strategy.broken`."""
    return Strategies.of([*built_in(), *in_folder(settings.strategies_dir)])


def experts(settings: Settings, known: Strategies | None = None) -> Folders:
    """All experts, who may name any of the strategies. Raises CouldNotStart `strategy.broken`."""
    return Folders(FOLDER, settings.experts_dir, strategies=(known or strategies(settings)).by_name)
