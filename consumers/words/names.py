"""The names at the top of projects' folders, by which rules know what a goal means: read anew only after a change."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from anyio import to_thread

from consumers.tools.workspace import Workspace
from schemas.errors import ToolRefused

SETTLED = 1_000_000_000
"""Nanoseconds since a folder's last change after which its next one surely shows in its time."""

Found = tuple[frozenset[str], frozenset[str]]
NONE: Found = (frozenset(), frozenset())


class Names:
    """The names at the top of the folders of these workspaces."""

    def __init__(self, workspaces: Callable[[str], Workspace]) -> None:
        self._workspaces = workspaces
        self._read: dict[Path, tuple[int, Found]] = {}

    async def of(self, project: str) -> Found:
        """The folders and the files of a project; none of either if its folder can't be read."""
        with suppress(ToolRefused, OSError):
            workspace = self._workspaces(project)
            changed = workspace.root.stat().st_mtime_ns
            known = self._read.get(workspace.root)
            if known and known[0] == changed:
                return known[1]
            found = await to_thread.run_sync(_listed, workspace)
            if time.time_ns() - changed > SETTLED:
                self._read[workspace.root] = changed, found
            return found
        return NONE


def _listed(workspace: Workspace) -> Found:
    entries = workspace.list(".").entries
    folders = frozenset(entry.name for entry in entries if entry.kind == "folder")
    return folders, frozenset(entry.name for entry in entries if entry.kind == "file")
