"""Experts are files: what one may hold, what is said about a wrong one, and how they come and go."""

import os
import time
import timeit
from pathlib import Path

import msgspec
import pytest

from consumers.experts.expert import FOLDER, STRATEGIES, Expert, read_expert
from consumers.experts.roster import Folders, Roster
from consumers.tools.registry import BUILT_IN
from consumers.words.routing import Router
from schemas.errors import InvalidInput

BEEKEEPER = """\
name: beekeeper
display_name: Beekeeper
title: Looks after bees
department: garden
capabilities:
  bees: 0.9
instructions: You look after bees.
keywords:
  sure:
    en: [bees, beehive*, make honey]
    ru: [пчел*, улей, ульи]
    zh: [蜜蜂, 蜂箱]
"""


def written(folder: Path, text: str = BEEKEEPER, name: str = "beekeeper") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        read_expert(written(folder, text))
    assert str(folder) in caught.value.message
    return caught.value


def test_all_that_the_mission_names_are_there() -> None:
    roster = Folders(FOLDER).roster()
    assert roster.problems == ()
    specialists = {
        "marketing", "frontend", "backend", "mobile", "devops", "data_analyst", "ux_designer", "project_manager", "qa",
        "content_writer",
    }  # fmt: skip
    ranks = {name: expert.rank for name, expert in roster.experts.items()}
    assert {name for name, rank in ranks.items() if rank == "specialist"} == specialists
    assert {name for name, rank in ranks.items() if rank == "agent"} == {"victoria", "veronica"}
    assert {name for name, rank in ranks.items() if rank == "assistant"} == {"memo", "schedule"}
    for name, members in roster.departments.items():
        if any(member.rank == "specialist" for member in members):
            assert [member.rank for member in members].count("head") == 1, name
            assert members[0].rank == "head"
    for expert in roster.experts.values():
        assert {"en", "ru", "zh"} <= expert.keywords.sure.keys(), expert.name
        assert expert.strategy in STRATEGIES


def test_every_tool_that_an_expert_names_is_there() -> None:
    roster = Folders(FOLDER, tools=BUILT_IN.names).roster()
    assert roster.problems == ()
    assert roster.experts == Folders(FOLDER).roster().experts
    for name in ("memo", "schedule"):
        own = {tool for tool in BUILT_IN.names if tool.startswith(f"{name}_")}
        assert own <= set(roster.experts[name].tools)
        for other in roster.experts.values():
            assert other.name == name or not own & set(other.tools)


@pytest.mark.parametrize(
    ("tools", "line", "says"),
    [
        ("tools: [finish, memo_serch]\n", 13, ["there is no tool 'memo_serch'", "Did you mean memo_search?"]),
        ("tools:\n- finish\n- fly\n", 15, ["there is no tool 'fly'", "The tools are ask_user, finish, "]),
    ],
)
def test_a_tool_that_is_none_is_told_with_its_line(tmp_path: Path, tools: str, line: int, says: list[str]) -> None:
    path = written(tmp_path, BEEKEEPER + tools)
    assert read_expert(path).tools, "who does not ask for tools is not told"
    (problem,) = Folders(tmp_path, tools=BUILT_IN.names).roster().problems
    assert problem.code == "expert.invalid"
    assert f"beekeeper.yaml:{line}: " in problem.message
    for part in says:
        assert part in f"{problem.message} {problem.hint}"


def test_the_agents_have_the_profiles_of_the_mission() -> None:
    experts = Folders(FOLDER).roster().experts
    assert experts["victoria"].capabilities.keys() == {"planning", "reasoning", "coordination", "code_analysis"}
    assert experts["veronica"].capabilities.keys() == {"execution", "file_operations", "research", "system_admin"}
    for name in ("victoria", "veronica"):
        assert all(0.85 <= level <= 0.98 for level in experts[name].capabilities.values())


def test_one_new_file_is_a_new_expert_everywhere(tmp_path: Path) -> None:
    folders = Folders(FOLDER, tmp_path)
    before = folders.roster()
    written(tmp_path)
    roster = folders.roster()
    assert roster.experts.keys() - before.experts.keys() == {"beekeeper"}
    assert roster.capabilities["bees"] == (roster.experts["beekeeper"],)
    assert roster.departments["garden"] == (roster.experts["beekeeper"],)
    for goal in ("How do I move two beehives with their bees?", "Как перевезти улей с пчёлами?", "怎么搬蜂箱和蜜蜂"):
        assert Router(roster).route(goal).expert == "beekeeper"
        assert Router(before).route(goal).expert != "beekeeper"


def test_changes_of_files_are_seen_and_nothing_changes_without(tmp_path: Path) -> None:
    folders = Folders(FOLDER, tmp_path)
    path = written(tmp_path)
    first = folders.roster()
    assert folders.roster() is first
    path.write_text(BEEKEEPER.replace("0.9", "0.95"))
    os.utime(path, ns=(1, 1))
    second = folders.roster()
    assert second.experts["beekeeper"].capabilities["bees"] == 0.95
    assert second.experts["backend"] is first.experts["backend"], "what has not changed is not read again"
    path.unlink()
    assert "beekeeper" not in folders.roster().experts


def test_a_broken_file_stops_no_other(tmp_path: Path) -> None:
    folders = Folders(FOLDER, tmp_path / "none", tmp_path)
    written(tmp_path)
    written(tmp_path, "name: [", "broken")
    (tmp_path / "nowhere.yaml").symlink_to("gone.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "notes.txt").write_text("no expert")
    roster = folders.roster()
    assert roster.experts.keys() == {*Folders(FOLDER).roster().experts, "beekeeper"}
    assert sorted(problem.code for problem in roster.problems) == [
        "expert.malformed",
        "expert.unreadable",
        "expert.unreadable",
    ]
    written(tmp_path, BEEKEEPER.replace("beekeeper", "broken"), "broken")
    assert "broken" in folders.roster().experts, "once it is put right it is there"


def test_a_users_expert_takes_the_place_of_one_with_the_same_name(tmp_path: Path) -> None:
    folders = Folders(FOLDER, tmp_path)
    own = written(tmp_path, BEEKEEPER.replace("beekeeper", "memo"), "memo")
    roster = folders.roster()
    assert roster.experts["memo"].title == "Looks after bees"
    assert [expert.name for expert in roster.departments["office"]] == ["schedule"]
    own.unlink()
    assert folders.roster().experts["memo"].title == "Keeps notes"


@pytest.mark.parametrize(
    ("wrong", "line", "says"),
    [
        (BEEKEEPER.replace("department:", "departement:"), 4, ["departement", "Did you mean department?"]),
        (BEEKEEPER + "colour: yellow\n", 13, ["colour", "The fields are name, display_name"]),
        (BEEKEEPER.replace("title: Looks after bees\n", ""), 1, ["title is missing", "1 to 80 characters"]),
        (BEEKEEPER + "rank: boss\n", 13, ["rank", "'boss'", "agent, head, specialist or assistant"]),
        (BEEKEEPER + "max_iterations: many\n", 13, ["max_iterations", "a whole number from 1 to 100"]),
        (BEEKEEPER + "max_iterations: 1000\n", 13, ["max_iterations", "<= 100", "a whole number from 1 to 100"]),
        (BEEKEEPER + "category: other\n", 13, ["category", "fast, coding, general"]),
        (BEEKEEPER + "strategy: swam\n", 13, ["'swam'", "Did you mean swarm?"]),
        (BEEKEEPER + "tools: read_file\n", 13, ["tools", "a list of tools' names"]),
        (BEEKEEPER + "tools:\n- read_file\n- Read File\n", 15, ["tools[1]", "a list of tools' names"]),
        (BEEKEEPER.replace("bees: 0.9", "bees: 9"), 6, ["capabilities", "from 0 to 1"]),
        (BEEKEEPER.replace("bees: 0.9", "bees: very"), 6, ["capabilities", "from 0 to 1"]),
        (BEEKEEPER.replace("  bees: 0.9", "  - bees"), 5, ["capabilities", "each with how well it is done"]),
        (BEEKEEPER.replace("[蜜蜂, 蜂箱]", "蜜蜂"), 12, ["keywords", "lists of keywords by language"]),
        (BEEKEEPER.replace("sure:", "certain:"), 9, ["certain", "sure and hints"]),
        (BEEKEEPER.replace("name: beekeeper", "name: bees"), 1, ["'bees'", "name: beekeeper"]),
        (BEEKEEPER + "title: Again\n", 13, ["'title' stands there twice"]),
        (BEEKEEPER.replace("[bees", "[[bees"), 11, ["not valid YAML"]),
        ("name: *other\n", 1, ["an alias"]),
        (BEEKEEPER + "tools: &a [*a]\n", 13, ["an alias"]),
        ("- a\n- b\n", 1, ["no fields"]),
        ("", 1, ["no fields"]),
        ("a: \x00", 1, ["not valid YAML"]),
        ("a: " + "[" * 30_000, 1, ["too deep"]),
        ("a: " + "{b: " * 10_000, 1, ["too deep"]),
    ],
)
def test_a_wrong_file_is_refused_with_its_line_and_what_is_allowed(
    tmp_path: Path, wrong: str, line: int, says: list[str]
) -> None:
    error = refused(tmp_path, wrong)
    assert error.code in ("expert.invalid", "expert.malformed")
    assert f"beekeeper.yaml:{line}: " in error.message
    for part in says:
        assert part in str(error)


def test_a_file_that_is_too_large_or_no_text_is_refused(tmp_path: Path) -> None:
    assert "65,536" in refused(tmp_path, BEEKEEPER + "#" * 70_000).message
    path = written(tmp_path)
    path.write_bytes(BEEKEEPER.encode() + b"# \xff")
    with pytest.raises(InvalidInput, match=r"beekeeper\.yaml:13: not UTF-8"):
        read_expert(path)


def test_words_mean_what_they_say_whatever_yaml_makes_of_them(tmp_path: Path) -> None:
    text = BEEKEEPER.replace("[bees, ", "[no, on, 12:30, null, 1e3, ").replace("Looks after bees", "yes")
    expert = read_expert(written(tmp_path, text))
    assert expert.keywords.sure["en"][:5] == ("no", "on", "12:30", "null", "1e3")
    assert expert.title == "yes"


def test_the_best_for_what_is_needed_is_who_does_it_well_and_has_time() -> None:
    def expert(name: str, **capabilities: float) -> Expert:
        return msgspec.convert(
            {"name": name, "display_name": name, "title": name, "department": "d", "instructions": "x",
             "capabilities": capabilities}, Expert
        )  # fmt: skip

    roster = Roster([expert("a", planning=0.9, research=0.9), expert("b", planning=0.95)])

    def best(*needs: str, **load: float) -> str | None:
        found = roster.best(needs, load)
        return found and found.name

    assert best("planning") == "b"
    assert best("planning", b=0.5) == "a"
    assert best("planning", a=1, b=1) is not None
    assert best("research", "planning") == "a"
    assert best("flying") is None
    assert best() is None
    assert roster.best(("planning",), among=("a",)) is roster.experts["a"]


def test_looking_for_changes_is_cheap() -> None:
    folders = Folders(FOLDER)
    folders.roster()
    assert min(timeit.repeat(folders.roster, time.process_time, number=20, repeat=5)) / 20 < 0.002
