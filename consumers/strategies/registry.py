"""All strategies by name, and which of them a goal gets. One is one file, beside this or in the user's own folder."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import get_args

from consumers import plugins
from consumers import strategies as package
from consumers.strategies.strategy import Strategy
from schemas.errors import CouldNotStart
from schemas.plan import Category, TaskKind

BROKEN = "strategy.broken"
SIMPLE, REACT, PARALLEL = "simple", "react", "parallel"
"""What a goal gets that one answer does, that something has to be looked up for, and that has several parts."""
MORE_THAN_AN_ANSWER = ("reasoning", "complex")
"""Kinds of goals to which one answer at once does no justice, however simple they look."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True)
class Strategies:
    """The strategies there are, by name."""

    by_name: Mapping[str, Strategy]

    @classmethod
    def of(cls, found: Iterable[type[Strategy]]) -> "Strategies":
        """These. Raises CouldNotStart `strategy.broken`."""
        by_name: dict[str, Strategy] = {}
        for kind in found:
            _hold_to_contract(kind)
            if earlier := by_name.get(kind.name):
                raise CouldNotStart(
                    BROKEN,
                    f"Two strategies are called {kind.name}: in {plugins.source(type(earlier))} and in "
                    f"{plugins.source(kind)}.",
                    "Give one another name.",
                )
            by_name[kind.name] = kind()
        return cls(MappingProxyType(dict(sorted(by_name.items()))))

    def choose(self, kind: TaskKind, category: Category, wanted: str = "") -> Strategy:
        """The strategy for a goal: the one that is wanted, by somebody or by the expert whose it surely is; else by
        category, and for several steps, and what is worth a thought, the first, by name, that suits the kind. A name
        nobody has is passed over."""
        if found := self.by_name.get(wanted):
            return found
        if category == "investigate":
            return self.by_name[REACT]
        if category == "simple" and kind not in MORE_THAN_AN_ANSWER:
            return self.by_name[SIMPLE]
        suiting = (each for each in self.by_name.values() if kind in each.suits)
        return next(suiting, self.by_name[PARALLEL])


def built_in() -> Iterator[type[Strategy]]:
    """The strategies in this package, by the names of their files."""
    return plugins.in_package(package, Strategy)


def in_folder(folder: Path) -> Iterator[type[Strategy]]:
    """The strategies in a folder's Python files. Raises CouldNotStart `strategy.broken`, with file and line."""
    return plugins.in_folder(folder, Strategy, BROKEN)


def _hold_to_contract(kind: type[Strategy]) -> None:
    name, kinds = getattr(kind, "name", ""), get_args(TaskKind)
    for fine, problem in (
        (_NAME.fullmatch(str(name)), f"its name is {name!r}; it should be small letters, as in tree_of_thoughts"),
        (isinstance(getattr(kind, "description", None), str), "it has no description"),
        (set(kind.suits) <= set(kinds), f"it suits what is none of {', '.join(kinds)}"),
    ):
        if not fine:
            raise plugins.broken(kind, BROKEN, f"is no strategy: {problem}")


BUILT_IN = Strategies.of(built_in())
"""What there is without any settings."""
