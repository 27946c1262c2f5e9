"""Rules know the names that are there: also those that just came, and none of a folder that can't be read."""

import os
import time
from pathlib import Path

import pytest

from consumers.tools.workspace import Workspace
from consumers.words.names import NONE, Names
from schemas.errors import ToolRefused


async def test_a_name_that_comes_or_goes_is_known_at_once(tmp_path: Path) -> None:
    names = Names(lambda _project: Workspace(tmp_path))
    for number in range(20):
        (tmp_path / f"{number}.md").write_text("")
        assert f"{number}.md" in (await names.of(""))[1]
        (tmp_path / f"{number}.md").unlink()
        assert await names.of("") == NONE


async def test_a_folder_that_stays_as_it_is_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    long_ago = time.time() - 60
    os.utime(tmp_path, (long_ago, long_ago))
    names = Names(lambda _project: Workspace(tmp_path))
    assert await names.of("") == (frozenset({"docs"}), frozenset())
    monkeypatch.setattr(Workspace, "list", None)
    assert await names.of("") == (frozenset({"docs"}), frozenset())


async def test_a_project_without_a_folder_has_no_names(tmp_path: Path) -> None:
    def refused(_project: str) -> Workspace:
        raise ToolRefused("project.no_folder", "It has none.")

    assert await Names(refused).of("shop") == NONE
    assert await Names(lambda _project: Workspace(tmp_path / "gone")).of("shop") == NONE
