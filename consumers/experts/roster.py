"""Who is there: all experts by name, which of them can what, and how this is kept fresh while files change."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from consumers.experts.expert import ENDING, FOLDER, STRATEGIES, Expert, read_expert
from schemas.errors import ErrorInfo, InvalidInput

MOST = 500
"""Files that are read of one folder."""

_Stamp = tuple[int, int, int]


class Roster:
    """The experts at one moment, by name. `problems` say which files could not be read, and why."""

    def __init__(self, experts: Iterable[Expert], problems: Iterable[ErrorInfo] = ()) -> None:
        self.experts: Mapping[str, Expert] = MappingProxyType({expert.name: expert for expert in experts})
        self.problems = tuple(problems)

    @cached_property
    def capabilities(self) -> Mapping[str, tuple[Expert, ...]]:
        """The capability map, made of what the experts declare: who can it, the best first."""
        able: dict[str, list[Expert]] = {}
        for expert in self.experts.values():
            for capability in expert.capabilities:
                able.setdefault(capability, []).append(expert)
        return MappingProxyType(
            {
                capability: tuple(sorted(experts, key=lambda expert: (-expert.capabilities[capability], expert.name)))
                for capability, experts in sorted(able.items())
            }
        )

    @cached_property
    def departments(self) -> Mapping[str, tuple[Expert, ...]]:
        """Each department's experts, its heads first."""
        rooms: dict[str, list[Expert]] = {}
        for expert in self.experts.values():
            rooms.setdefault(expert.department, []).append(expert)
        return MappingProxyType(
            {name: tuple(sorted(rooms[name], key=lambda each: each.rank != "head")) for name in sorted(rooms)}
        )

    def owner(self, tool: str) -> str:
        """The only expert that names a tool; "" if there are several, or none."""
        names = [expert.name for expert in self.experts.values() if tool in expert.tools]
        return names[0] if len(names) == 1 else ""

    def best(
        self, needs: Sequence[str], load: Mapping[str, float] = MappingProxyType({}), among: Collection[str] = ()
    ) -> Expert | None:
        """Who does best what needs all these capabilities; None if nobody has them all.

        `load` is how busy each expert is, from 0, idle, to 1, full: it takes as much of the score. `among` names those
        who may be chosen, by default all.
        """
        able = [
            expert
            for expert in (self.capabilities.get(needs[0], ()) if needs else ())
            if all(need in expert.capabilities for need in needs) and (not among or expert.name in among)
        ]

        def score(expert: Expert) -> float:
            busy = min(1, max(0, load.get(expert.name, 0)))
            return min(expert.capabilities[need] for need in needs) * (1 - busy)

        return max(able, key=score, default=None)


class Folders:
    """Experts' folders, of which a later one's files replace an earlier one's of the same name.

    `strategies` and `tools` are the names that experts may use; None is any tool.
    """

    def __init__(
        self, *folders: Path, strategies: Collection[str] = STRATEGIES, tools: Collection[str] | None = None
    ) -> None:
        self.folders = folders or (FOLDER,)
        self._strategies, self._tools = strategies, tools
        self._read: dict[str, tuple[_Stamp, Expert | ErrorInfo]] = {}
        self._stamps: dict[str, _Stamp] | None = None
        self._roster = Roster(())

    def roster(self) -> Roster:
        """Who is there now: the same object until a file has changed. Takes one look at each folder, no more.

        A file that can't be read is one of the roster's `problems`; the others are there all the same.
        """
        stamps = {path: stamp for folder in self.folders for path, stamp in _stamped(folder)}
        if stamps != self._stamps:
            self._read = {path: self._fresh(path, stamp) for path, stamp in stamps.items()}
            self._stamps = stamps
            found = [result for _, result in self._read.values()]
            self._roster = Roster(
                (each for each in found if isinstance(each, Expert)),
                (each for each in found if isinstance(each, ErrorInfo)),
            )
        return self._roster

    def _fresh(self, path: str, stamp: _Stamp) -> tuple[_Stamp, Expert | ErrorInfo]:
        known = self._read.get(path)
        if known and known[0] == stamp:
            return known
        try:
            return stamp, read_expert(Path(path), self._strategies, self._tools)
        except InvalidInput as problem:
            return stamp, problem.info


def _stamped(folder: Path) -> list[tuple[str, _Stamp]]:
    """An expert folder's files, each with what changes when it does; none if there is no such folder."""
    found: list[tuple[str, _Stamp]] = []
    try:
        with os.scandir(folder) as scan:
            for entry in scan:
                if entry.name.endswith(ENDING) and not entry.name.startswith(".") and len(found) < MOST:
                    found.append((entry.path, _stamp(entry)))
    except OSError:
        return []
    return sorted(found)


def _stamp(entry: "os.DirEntry[str]") -> _Stamp:
    try:
        status = entry.stat()
    except OSError:  # gone since the folder was read, or a link to nowhere
        return 0, 0, 0
    return status.st_mtime_ns, status.st_size, status.st_ino
