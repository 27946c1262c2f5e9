"""`victoria experts`: who is there, who can what, and what is wrong with a file."""

from pathlib import Path

import pytest

from consumers.experts.expert import FOLDER
from consumers.experts.roster import Folders
from tests.gateway.conftest import Call

ROSTER = Folders(FOLDER).roster()
BEEKEEPER = """\
name: beekeeper
display_name: Beekeeper
title: Looks after bees
department: garden
capabilities: {bees: 0.9}
instructions: You look after bees.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "experts"
    path.mkdir()
    return path


def test_all_experts_and_the_capability_map_are_shown_on_80_columns(call: Call, folder: Path) -> None:
    done = call("experts", VICTORIA_EXPERTS_DIR=str(folder))
    assert done.code == 0
    shown = {line.split()[0] for line in done.out.splitlines() if line.strip()}
    assert shown >= {*ROSTER.experts, *ROSTER.departments, *ROSTER.capabilities}
    assert max(map(len, done.out.splitlines())) <= 80
    assert str(folder) in done.err
    data = call("experts", "--json", VICTORIA_EXPERTS_DIR=str(folder)).json()
    assert [expert["name"] for expert in data["experts"]] == list(ROSTER.experts)
    assert data["capabilities"]["calendar"] == {"schedule": 0.97}
    assert next(iter(data["capabilities"]["planning"])) == "victoria"
    assert (data["problems"], data["folder"]) == ([], str(folder))


def test_one_expert_is_shown_with_all_that_is_in_its_file(call: Call) -> None:
    done = call("experts", "memo")
    memo = ROSTER.experts["memo"]
    for part in (memo.display_name, memo.title, memo.department, memo.strategy, *memo.tools, *memo.capabilities):
        assert part in done.out
    assert max(map(len, done.out.splitlines())) <= 80 or memo.source in done.out
    assert call("experts", "memo", "--json").json()["instructions"] == memo.instructions


def test_an_unknown_name_is_refused_with_the_nearest(call: Call) -> None:
    done = call("experts", "fronted")
    assert done.code == 2
    assert "[expert.unknown]" in done.err
    assert "Did you mean frontend?" in done.err


def test_a_file_in_the_users_folder_adds_an_expert_and_a_broken_one_is_told(call: Call, folder: Path) -> None:
    (folder / "beekeeper.yaml").write_text(BEEKEEPER)
    done = call("experts", VICTORIA_EXPERTS_DIR=str(folder))
    assert done.code == 0
    assert "Beekeeper. Looks after bees" in done.out
    (folder / "wrong.yaml").write_text(BEEKEEPER.replace("beekeeper", "wrong").replace("title", "titel"))
    done = call("experts", VICTORIA_EXPERTS_DIR=str(folder))
    assert done.code == 1
    assert "beekeeper" in done.out
    assert "wrong.yaml:3: there is no field 'titel'. Did you mean title?" in done.err
    data = call("experts", "--json", VICTORIA_EXPERTS_DIR=str(folder)).json()
    assert [problem["code"] for problem in data["problems"]] == ["expert.invalid"]


def test_an_expert_may_name_a_tool_of_the_users_own_and_none_that_is_not_there(
    call: Call, folder: Path, tmp_path: Path
) -> None:
    (folder / "beekeeper.yaml").write_text(BEEKEEPER + "tools: [finish, web_search, memo_serch]\n")
    done = call("experts", VICTORIA_EXPERTS_DIR=str(folder))
    assert done.code == 1
    assert "beekeeper.yaml:7: there is no tool 'memo_serch'. Did you mean memo_search?" in done.err
    (tmp_path / "memo_serch.py").write_text(
        "from typing import ClassVar\n"
        "from consumers.tools.tool import Site, ToolArguments\n"
        "class Serch(ToolArguments, frozen=True, tag='memo_serch'):\n"
        "    description: ClassVar[str] = 'nothing much'\n"
        "    async def run(self, site: Site) -> str:\n"
        "        return ''\n"
    )
    assert call("experts", VICTORIA_EXPERTS_DIR=str(folder), VICTORIA_TOOLS_DIR=str(tmp_path)).code == 0
