"""Tools are found by name, their arguments checked, their results text."""

from pathlib import Path

import msgspec
import pytest

from consumers.tools.finish import Finish
from consumers.tools.list_directory import ListDirectory
from consumers.tools.read_file import ReadFile
from consumers.tools.registry import TOOLS, Action, describe_tools, parse_call
from consumers.tools.workspace import Workspace
from schemas.errors import ToolRefused
from schemas.inference import Question
from schemas.plan import ToolCall


async def run(call: ToolCall, root: Path) -> str:
    tool, arguments = parse_call(call)
    return await tool.run(arguments, Workspace(root))


def test_every_tool_is_complete_and_listed_once() -> None:
    assert set(TOOLS) == {"read_file", "list_directory", "finish"}
    for name, tool in TOOLS.items():
        assert tool.name == name
        assert tool.description
        assert tool.effects == "none"
        assert tool.arguments.__struct_fields__[0] == "thought"


async def test_list_directory_gives_one_name_a_line(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.md").write_text("text")
    (tmp_path / "c\nd\x1b[2J").touch()
    assert await run(ToolCall("list_directory"), tmp_path) == "a.md\nb/\nc\\nd\\x1b[2J"
    assert await run(ToolCall("list_directory", {"path": "b"}), tmp_path) == "(empty)"


async def test_list_directory_says_what_it_left_out(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    text = await ListDirectory("").run(Workspace(tmp_path, max_entries=1))
    assert text == "a\n(at least 2 more are left out)"


async def test_read_file_gives_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("text\n")
    assert await run(ToolCall("read_file", {"path": "a.md"}), tmp_path) == "text\n"


async def test_a_refusal_passes_through(tmp_path: Path) -> None:
    with pytest.raises(ToolRefused, match=r"path\.parent"):
        await run(ToolCall("read_file", {"path": "../a.md"}), tmp_path)


async def test_finish_gives_the_answer(tmp_path: Path) -> None:
    assert await run(ToolCall("finish", {"answer": "42"}), tmp_path) == "42"


@pytest.mark.parametrize(
    ("name", "hint"), [("readfile", "read_file?"), ("list_dir", "list_directory?"), ("x", "finish")]
)
def test_an_unknown_tool_names_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ToolRefused) as caught:
        parse_call(ToolCall(name))
    assert caught.value.code == "tool.unknown"
    assert hint in caught.value.hint


def test_a_very_long_tool_name_is_cut() -> None:
    with pytest.raises(ToolRefused) as caught:
        parse_call(ToolCall("x" * 100_000))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "call",
    [
        ToolCall("read_file"),
        ToolCall("read_file", {"file": "a.md"}),
        ToolCall("read_file", {"path": "a.md", "mode": "w"}),
        ToolCall("read_file", {"path": "a" * 201}),
        ToolCall("read_file", {"path": "a.md", "tool": "finish"}),
        ToolCall("finish", {"answer": "a" * 4001}),
    ],
)
def test_wrong_arguments_are_refused(call: ToolCall) -> None:
    with pytest.raises(ToolRefused) as caught:
        parse_call(call)
    assert caught.value.code == "tool.arguments"
    assert "path" in caught.value.hint or "answer" in caught.value.hint


def test_a_model_answers_with_any_tool() -> None:
    question = Question("", "", Action)
    action = question.parse('{"tool": "read_file", "thought": "look", "path": "a.md"}')
    assert action == ReadFile("look", "a.md")
    assert action.name == "read_file"
    assert action.without_thought() == ReadFile("", "a.md")
    assert question.parse('{"thought": "", "tool": "finish", "answer": "done"}') == Finish("", "done")
    assert question.schema
    for wrong in (
        '{"tool": "rm", "thought": ""}',
        '{"thought": "", "path": "a"}',
        '{"tool": "read_file", "thought": "' + "x" * 301 + '", "path": "a"}',
    ):
        with pytest.raises(msgspec.ValidationError):
            question.parse(wrong)


def test_the_prompt_has_one_line_for_each_tool() -> None:
    lines = describe_tools().splitlines()
    assert len(lines) == len(TOOLS)
    assert lines[0] == "read_file(path): the text of one file"
