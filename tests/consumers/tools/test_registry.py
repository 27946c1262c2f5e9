"""Tools are found by name, their arguments checked, their results text; a new one is one new file."""

from pathlib import Path
from textwrap import dedent
from typing import ClassVar

import msgspec
import pytest

from consumers import tools as package
from consumers.step_execute import Executor
from consumers.tools.allowed import Allowed, Host
from consumers.tools.ask_user import AskUser
from consumers.tools.finish import Finish
from consumers.tools.list_directory import ListDirectory
from consumers.tools.read_file import ReadFile
from consumers.tools.registry import BUILT_IN, MAX_CHARACTERS, NO, YES, Registry, built_in, carried_out, in_folder
from consumers.tools.run_terminal_cmd import RunTerminalCmd
from consumers.tools.ssh_run import SshRun
from consumers.tools.tool import Asked, Site, ToolArguments
from consumers.tools.workspace import Workspace
from schemas.errors import CouldNotStart, InvalidInput, ToolRefused
from schemas.events import QuestionAsked, StepFinished, StepReady
from schemas.inference import Question
from schemas.plan import Step, ToolCall
from streams.stage import Effects
from streams.testing import ScriptedContext

CONFIGURED = Allowed(search="http://127.0.0.1:1", hosts=(Host("gpu-1"),))


async def run(call: ToolCall, root: Path) -> str:
    return await carried_out(BUILT_IN.parse(call), Site(Workspace(root)))


def test_every_tool_of_the_mission_is_there_and_complete() -> None:
    registry = Registry.of(built_in(), CONFIGURED)
    mission = {"finish", "read_file", "list_directory", "run_terminal_cmd", "ssh_run", "web_search", "ask_user"}
    notes = {"memo_write", "memo_search", "memo_list", "memo_read", "memo_delete"}
    calendar = {"schedule_create", "schedule_query", "schedule_change", "schedule_delete"}
    assert set(registry.tools) == mission | notes | calendar | {"missing_capability"}
    assert registry.absent == {}
    effects = {"run_terminal_cmd": "unknown", "ssh_run": "unknown"}
    effects |= dict.fromkeys(("memo_write", "memo_delete"), "repeat")
    effects |= dict.fromkeys(("schedule_create", "schedule_change", "schedule_delete"), "repeat")
    for name, tool in registry.tools.items():
        assert tool.name == name
        assert name.startswith(tool.source.stem)
        assert 10 < len(tool.description) <= 100
        assert tool.effects == effects.get(name, "none")
        assert tool.arguments.__struct_fields__[0] == "thought"
        assert tool.arguments.approval == (name == "ssh_run")
        assert tool.schema["$defs"]


def test_what_settings_do_not_name_is_absent_and_says_why() -> None:
    assert set(BUILT_IN.absent) == {"ssh_run", "web_search"}
    assert "`search_url`" in BUILT_IN.absent["web_search"].missing
    with pytest.raises(ToolRefused) as caught:
        BUILT_IN.parse(ToolCall("web_search", {"query": "x"}))
    assert (caught.value.code, caught.value.hint) == ("tool.unknown", BUILT_IN.absent["web_search"].missing)
    with pytest.raises(msgspec.ValidationError):
        Question("", "", BUILT_IN.action).parse('{"tool": "web_search", "thought": "", "query": "x"}')


def test_a_profile_chooses_its_tools_and_always_has_finish() -> None:
    registry = Registry.of(built_in(), CONFIGURED).chosen(["read_file", "web_search"])
    assert set(registry.tools) == {"finish", "read_file", "web_search"}
    assert set(BUILT_IN.chosen(["read_file", "web_search"]).tools) == {"finish", "read_file"}
    assert set(BUILT_IN.chosen(["web_search"]).absent) == {"web_search"}
    with pytest.raises(msgspec.ValidationError):
        Question("", "", registry.action).parse('{"tool": "list_directory", "thought": "", "path": "."}')
    alone = BUILT_IN.chosen([])
    assert Question("", "", alone.action).parse('{"tool": "finish", "thought": "", "answer": "a"}') == Finish("", "a")
    with pytest.raises(InvalidInput, match=r"read_files.*Did you mean read_file\?"):
        BUILT_IN.chosen(["read_files"])


# A new tool is one new file

SHOUT = '''\
    """`shout`: a text in capitals."""

    from typing import Annotated, ClassVar

    from msgspec import Meta

    from consumers.tools.tool import Site, ToolArguments


    class Shout(ToolArguments, frozen=True, tag="shout"):
        """Say something loudly."""

        description: ClassVar[str] = "a text in capitals"

        text: Annotated[str, Meta(max_length=100)]

        async def run(self, site: Site) -> str:
            """The text in capitals."""
            return self.text.upper()
'''


@pytest.mark.parametrize("where", ["the user's folder", "the package"])
async def test_a_new_tool_takes_one_new_file_and_a_model_can_use_it(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shout.py").write_text(dedent(SHOUT))
    if where == "the package":
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        registry = Registry.of(built_in())
    else:
        registry = Registry.of([*built_in(), *in_folder(tmp_path)])
    assert "shout(text): a text in capitals" in registry.described
    said = Question("", "", registry.action).parse('{"tool": "shout", "thought": "so", "text": "hello"}')
    ctx = ScriptedContext[None](answers={"act-1": said, "act-2": Finish("", "done")})
    event = StepReady(step=Step("1", "t", "Shout hello."), goal="Shout hello.")
    (finished,) = await Executor(lambda _: Workspace(tmp_path), 5, registry).handle(event, ctx)
    assert isinstance(finished, StepFinished)
    assert (finished.status, finished.output, finished.tools) == ("ok", "done", ("shout",))
    assert "shout: HELLO" in ctx.asked[1][1].user


def test_a_folder_that_is_not_there_has_no_tools(tmp_path: Path) -> None:
    assert list(in_folder(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nonsense(", "line 1: SyntaxError"),
        ("\n\nraise ValueError('no')", "line 3: ValueError: no"),
        (dedent(SHOUT).replace('tag="shout"', 'tag="Shout it"'), "line 10: Shout is no tool: its tag is 'Shout it'"),
        (dedent(SHOUT).replace("    description", "    other"), "line 10: Shout is no tool: it has no description"),
        (dedent(SHOUT).replace('tag="shout"', 'tag="finish"'), "Two tools are called finish: in "),
    ],
)
def test_a_broken_tool_is_named_with_file_and_line(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "shout.py").write_text(text)
    with pytest.raises(CouldNotStart) as caught:
        Registry.of([*built_in(), *in_folder(tmp_path)])
    assert caught.value.code == "tool.broken"
    assert problem in caught.value.message
    assert str(tmp_path / "shout.py") in caught.value.message


# Calls


async def test_list_directory_gives_one_name_a_line(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.md").write_text("text")
    (tmp_path / "c\nd\x1b[2J").touch()
    assert await run(ToolCall("list_directory"), tmp_path) == "a.md\nb/\nc\\nd\\x1b[2J"
    assert await run(ToolCall("list_directory", {"path": "b"}), tmp_path) == "(empty)"


async def test_list_directory_says_what_it_left_out(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    text = await ListDirectory("").run(Site(Workspace(tmp_path, max_entries=1)))
    assert text == "a\n(at least 2 more are left out)"


async def test_read_file_gives_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("text\n")
    assert await run(ToolCall("read_file", {"path": "a.md"}), tmp_path) == "text\n"


async def test_a_refusal_passes_through(tmp_path: Path) -> None:
    with pytest.raises(ToolRefused, match=r"path\.parent"):
        await run(ToolCall("read_file", {"path": "../a.md"}), tmp_path)


async def test_finish_gives_the_answer(tmp_path: Path) -> None:
    assert await run(ToolCall("finish", {"answer": "42"}), tmp_path) == "42"


async def test_ask_user_signals_that_the_step_has_to_wait(tmp_path: Path) -> None:
    with pytest.raises(Asked) as caught:
        await carried_out(AskUser("", "Which one?", ("a", "b")), Site(Workspace(tmp_path)))
    assert (caught.value.question, caught.value.choices) == ("Which one?", ("a", "b"))


def test_a_tool_that_needs_approval_asks_unless_settings_approve_it() -> None:
    call = SshRun("because", "gpu-1", ("reboot",))
    with pytest.raises(Asked) as caught:
        BUILT_IN.require_approval(call)
    assert caught.value.question == 'May ssh_run be used with {"host":"gpu-1","argv":["reboot"]}?'
    Registry.of(built_in(), Allowed(approved=frozenset({"ssh_run"}))).require_approval(call)
    BUILT_IN.require_approval(ReadFile("", "a.md"))


async def test_a_call_that_somebody_must_agree_to_waits_for_them_and_nothing_is_done(tmp_path: Path) -> None:
    far = SshRun("", "gpu-1", ("reboot",))
    ctx = ScriptedContext[None](answers={"act-1": far})
    event = StepReady(step=Step("1", "t", "Do it."), goal="Do it.")
    registry = Registry.of(built_in(), CONFIGURED)
    (waits,) = await Executor(lambda _: Workspace(tmp_path), 5, registry).handle(event, ctx)
    assert isinstance(waits, QuestionAsked)
    assert (waits.choices, waits.approval) == ((YES, NO), True)
    assert "reboot" in waits.question
    assert ctx.called == []


def test_what_only_looks_may_be_done_again_and_what_may_write_may_not() -> None:
    assert RunTerminalCmd("", ("ls",)).policy() == "none"
    assert RunTerminalCmd("", ("make",)).policy() == SshRun("", "h", ("ls",)).policy() == "unknown"


class Broken(ToolArguments, frozen=True, tag="broken"):
    """Fails in a way nobody thought of."""

    length: int = -1

    async def run(self, site: Site) -> str:
        if self.length < 0:
            raise KeyError("nobody")
        return "x" * self.length


async def test_a_mistake_in_a_tool_is_a_refusal_and_too_long_a_result_is_cut(tmp_path: Path) -> None:
    with pytest.raises(ToolRefused, match=r"broken failed: KeyError: 'nobody' \[tool\.failed\]"):
        await carried_out(Broken(""), Site(Workspace(tmp_path)))
    text = await carried_out(Broken("", MAX_CHARACTERS + 5), Site(Workspace(tmp_path)))
    assert text.endswith("x\n(5 characters more are left out)")


@pytest.mark.parametrize("effects", ["none", "repeat"])
async def test_a_tool_that_gives_no_text_is_named_at_once(tmp_path: Path, effects: Effects) -> None:
    class Silent(ToolArguments, frozen=True, tag="silent"):
        description: ClassVar[str] = "says nothing at all"
        effects: ClassVar[Effects]

        async def run(self, site: Site) -> str:
            return None  # pyright: ignore[reportReturnType] - that is the point

    Silent.effects = effects
    executor = Executor(lambda _name: Workspace(tmp_path), 10, Registry.of([Finish, Silent]))
    event = StepReady(step=Step("1", "t", "x", how="tool", call=ToolCall("silent")), goal="x")
    (ended,) = await executor.handle(event, ScriptedContext())
    assert isinstance(ended, StepFinished)
    assert ended.error
    assert (ended.status, ended.error.code) == ("failed", "tool.no_text")
    assert "silent was carried out, but gave NoneType" in ended.error.message


@pytest.mark.parametrize(
    ("name", "hint"), [("readfile", "read_file?"), ("list_dir", "list_directory?"), ("x", "finish")]
)
def test_an_unknown_tool_names_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ToolRefused) as caught:
        BUILT_IN.parse(ToolCall(name))
    assert caught.value.code == "tool.unknown"
    assert hint in caught.value.hint


def test_a_very_long_tool_name_is_cut() -> None:
    with pytest.raises(ToolRefused) as caught:
        BUILT_IN.parse(ToolCall("x" * 100_000))
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
        ToolCall("run_terminal_cmd", {"argv": "ls; rm -rf /"}),
    ],
)
def test_wrong_arguments_are_refused(call: ToolCall) -> None:
    with pytest.raises(ToolRefused) as caught:
        BUILT_IN.parse(call)
    assert caught.value.code == "tool.arguments"
    assert any(name in caught.value.hint for name in ("path", "answer", "argv"))


def test_a_model_answers_with_any_tool() -> None:
    question = Question("", "", BUILT_IN.action)
    action = question.parse('{"tool": "read_file", "thought": "look", "path": "a.md"}')
    assert action == ReadFile("look", "a.md")
    assert action.name == "read_file"
    assert action.without_thought() == ReadFile("", "a.md")
    assert question.parse('{"thought": "", "tool": "finish", "answer": "done"}') == Finish("", "done")
    assert question.parse('{"tool": "run_terminal_cmd", "thought": "", "argv": ["ls", "-l"]}') == RunTerminalCmd(
        "", ("ls", "-l")
    )
    assert question.schema
    for wrong in (
        '{"tool": "rm", "thought": ""}',
        '{"thought": "", "path": "a"}',
        '{"tool": "run_terminal_cmd", "thought": "", "argv": []}',
        '{"tool": "read_file", "thought": "' + "x" * 301 + '", "path": "a"}',
    ):
        with pytest.raises(msgspec.ValidationError):
            question.parse(wrong)


def test_the_prompt_has_one_line_for_each_tool() -> None:
    lines = BUILT_IN.described.splitlines()
    assert len(lines) == len(BUILT_IN.tools)
    assert "read_file(path): the text of one file" in lines
