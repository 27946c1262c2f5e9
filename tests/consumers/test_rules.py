"""What people write, in three languages: what rules are sure of, and what they leave alone."""

import pytest

from consumers.tools.registry import BUILT_IN
from consumers.tools.workspace import Workspace
from consumers.words.phrases import RULES, pattern
from consumers.words.rules import There, recognise
from schemas.errors import ToolRefused
from schemas.plan import ToolCall

LIST, READ = "list_directory", "read_file"

ONE_CALL: list[tuple[str, str, str]] = [
    # English
    ("list the files in schemas", LIST, "schemas"),
    ("List the files in the folder schemas", LIST, "schemas"),
    ("List the files in the folder schemas.", LIST, "schemas"),
    ("what files are in streams", LIST, "streams"),
    ("Which files are there in the streams directory?", LIST, "streams"),
    ("show the contents of directory llm/prompts", LIST, "llm/prompts"),
    ("Show me the contents of the folder 'my docs'", LIST, "my docs"),
    ("ls schemas", LIST, "schemas"),
    ("ls -la ./src/", LIST, "src"),
    ("LS SCHEMAS", LIST, "SCHEMAS"),
    ("what is in the folder schemas", LIST, "schemas"),
    ("What's in the schemas folder?", LIST, "schemas"),
    ("Could you please list all the files in the consumers/tools folder?", LIST, "consumers/tools"),
    ("list the files and folders in .github", LIST, ".github"),
    ("list the files here", LIST, "."),
    ("List the files in the project", LIST, "."),
    ("list the files in the current folder", LIST, "."),
    ("List the files in this repository.", LIST, "."),
    ("ls", LIST, "."),
    ("ls ..", LIST, ".."),
    ("ls ~", LIST, "~"),
    ("List the files in the folder ../../etc", LIST, "../../etc"),
    ("list the files in /etc", LIST, "/etc"),
    ("list src/app", LIST, "src/app"),
    ("show me README.md", READ, "README.md"),
    ("Please read ./docs/a/b.md.", READ, "docs/a/b.md"),
    ("cat Makefile", READ, "Makefile"),
    ("print LICENSE", READ, "LICENSE"),
    ("open the file notes", READ, "notes"),
    ("display the file a.txt!", READ, "a.txt"),
    ("Read “my notes.txt”.", READ, "my notes.txt"),
    ('read "docs/a b.md"', READ, "docs/a b.md"),
    ("Read `x.py`", READ, "x.py"),
    ("what does the file README.md say?", READ, "README.md"),
    ("What's in package.json?", READ, "package.json"),
    ("show me the contents of README.md", READ, "README.md"),
    ("Read the config.toml file", READ, "config.toml"),
    ("cat ~/.ssh/id_rsa", READ, "~/.ssh/id_rsa"),
    ("read ../../etc/passwd", READ, "../../etc/passwd"),
    ("Read /etc/passwd", READ, "/etc/passwd"),
    ("Read .env", READ, ".env"),
    ("open the schemas folder", LIST, "schemas"),
    # Russian
    ("Покажи файлы в папке schemas", LIST, "schemas"),
    ("Перечисли файлы в каталоге consumers", LIST, "consumers"),
    ("Покажи, какие файлы лежат в папке schemas", LIST, "schemas"),
    ("какие файлы лежат в streams?", LIST, "streams"),
    ("список файлов в llm", LIST, "llm"),
    ("Выведи список всех файлов в директории ./streams/", LIST, "streams"),
    ("Покажи файлы в папке «Мои документы»", LIST, "Мои документы"),
    ("покажи содержимое папки отчёты", LIST, "отчёты"),
    ("что лежит в папке schemas?", LIST, "schemas"),
    ("покажи файлы в проекте", LIST, "."),
    ("Прочитай README.md", READ, "README.md"),
    ("покажи файл README.md", READ, "README.md"),
    ("покажи мне README.md, пожалуйста", READ, "README.md"),
    ("выведи содержимое streams/stage.py", READ, "streams/stage.py"),
    ("открой отчёт.txt", READ, "отчёт.txt"),
    ("Прочитай файл «мой отчёт.txt»", READ, "мой отчёт.txt"),
    ("что написано в файле README.md?", READ, "README.md"),
    ("Назови файлы в папке schemas", LIST, "schemas"),
    # Chinese
    ("打开 schemas 文件夹", LIST, "schemas"),
    ("列出 schemas 文件夹中的文件", LIST, "schemas"),
    ("列出schemas文件夹中的文件。", LIST, "schemas"),
    ("列出目录 schemas 下的文件", LIST, "schemas"),
    ("schemas 目录里有哪些文件？", LIST, "schemas"),
    ("显示 schemas 文件夹的内容", LIST, "schemas"),
    ("请帮我列出 文档 文件夹中的文件", LIST, "文档"),
    ("列出“我的文档”文件夹中的文件", LIST, "我的文档"),
    ("列出当前目录的文件", LIST, "."),
    ("读取 README.md", READ, "README.md"),
    ("读取README.md", READ, "README.md"),
    ("显示 README.md 的内容", READ, "README.md"),
    ("打开文件 README.md", READ, "README.md"),
    ("查看 docs/a.md", READ, "docs/a.md"),
    ("读取「笔记 一.md」", READ, "笔记 一.md"),
    ("文件 README.md 里写了什么？", READ, "README.md"),
]

THERE = There(
    folders=frozenset({"schemas", "consumers", "llm", "tests", "Docs", "отчёты"}),
    files=frozenset({"README.md", "LICENSE", "Makefile", "CHANGELOG.md", "notes.md", "notes.txt", "заметки.txt"}),
)

ONLY_WHERE_IT_IS_THERE: list[tuple[str, str, str]] = [
    ("what's in schemas", LIST, "schemas"),
    ("What is inside llm?", LIST, "llm"),
    ("show the contents of schemas", LIST, "schemas"),
    ("Could you show me what's in docs, please?", LIST, "Docs"),
    ("list schemas", LIST, "schemas"),
    ("look into consumers", LIST, "consumers"),
    ("read the readme", READ, "README.md"),
    ("Read the README.", READ, "README.md"),
    ("cat readme", READ, "README.md"),
    ("open the changelog", READ, "CHANGELOG.md"),
    ("show me our license", READ, "LICENSE"),
    ("что в schemas?", LIST, "schemas"),
    ("покажи, что лежит в consumers", LIST, "consumers"),
    ("покажи содержимое llm", LIST, "llm"),
    ("что лежит в отчёты", LIST, "отчёты"),
    ("прочитай ридми", READ, "README.md"),
    ("открой лицензию", READ, "LICENSE"),
    ("покажи заметки", READ, "заметки.txt"),
    ("schemas 里有什么？", LIST, "schemas"),
    ("看看 consumers 里面有什么文件", LIST, "consumers"),
    ("列出 schemas", LIST, "schemas"),
    ("读一下 README", READ, "README.md"),
    ("打开自述文件", READ, "README.md"),
]

NO_CALL = [
    "list the reasons why Rome fell", "read between the lines", "show me how to cook", "list the files in my head",
    "list the files in my head that I should delete", "read the room", "open the discussion",
    "what files do I need for taxes?", "What is an event?", "read it", "Read the file carefully", "read me a story",
    "open the file menu", "show me the file system", "show me the money", "print hello", 'print "hello"',
    'show me "love"', "print 3.14", "read 1984", "cat food", "cat and dog.jpg", "read https://example.com/page.html",
    "read example.com", "open www.site.ru/a.html", "list the files in English", "list the files in alphabetical order",
    "list the files in parallel", "list all python files in src", "list the files in every folder",
    "what files are in use",
    "How do I read README.md?", "Don't read README.md", "Why does cat README.md fail?", "ls command",
    "ls, cd and pwd explained", "list schemas", "show me Node.js", "read and/or", "open 24/7", "show yes/no",
    "delete README.md", "explain README.md", "what does main.py do?", "list the files in archive.zip",
    "show the working directory",
    "find and fix the errors on page X", "read the README", "read e.g.", "list ...", "read ...", "", "   ", "«»",
    "открой тайну", "открой дверь", "прочитай мысли", "прочитай файл полностью", "покажи файл конфигурации",
    "покажи файлы в формате pdf", "перечисли причины падения Рима", "покажи мне, как готовить",
    "какие файлы нужны для налогов?", "покажи папку с документами", "покажи файлы в архиве",
    "прочитай «Войну и мир»", "список покупок", "Помоги с анализом данных", "что в мире происходит",
    "打开心扉", "查看天气", "打开文件夹", "查看文件大小", "读取文件内容", "列出罗马灭亡的原因", "阅读理解",
    "列出所有文件夹中的文件", "打开空调", "显示文件列表的大小", "什么是事件？",
]  # fmt: skip

SEVERAL = [
    (
        "List the files in the folder consumers and read consumers/topology.py",
        ["list_directory consumers", "read_file consumers/topology.py"],
        "",
    ),
    ("Read README.md. Then list the files in schemas.", ["read_file README.md", "list_directory schemas"], ""),
    ("First read a.md, then, please, read b.md", ["read_file a.md", "read_file b.md"], ""),
    ("Read a.md, b.md and c.md", ["read_file a.md", "read_file b.md", "read_file c.md"], ""),
    ("Read 'a and b.md' and LICENSE", ["read_file a and b.md", "read_file LICENSE"], ""),
    ("List files in docs/ and src/", ["list_directory docs", "list_directory src"], ""),
    ("Read README.md and summarise it", ["read_file README.md"], "summarise it"),
    (
        "List the files in the folder schemas, then explain what an event is",
        ["list_directory schemas"],
        "explain what an event is",
    ),
    (
        "Read a.md, fix 'the   bug' in it, then read b.md",
        ["read_file a.md"],
        "fix 'the   bug' in it, then read b.md",
    ),
    ("Read README.md\n\nWhat is it about?", ["read_file README.md"], "What is it about?"),
    (
        "Прочитай README.md, затем перечисли файлы в папке schemas",
        ["read_file README.md", "list_directory schemas"],
        "",
    ),
    ("Прочитай README.md и кратко перескажи", ["read_file README.md"], "кратко перескажи"),
    (
        "读取 README.md，然后列出 schemas 文件夹中的文件",
        ["read_file README.md", "list_directory schemas"],
        "",
    ),
    ("读取README.md并总结", ["read_file README.md"], "总结"),
    (
        "List the files in schemas, consumers and llm, then explain what an event is",
        ["list_directory schemas", "list_directory consumers", "list_directory llm"],
        "explain what an event is",
    ),
    ("列出 schemas 文件夹中的文件，然后解释什么是事件", ["list_directory schemas"], "解释什么是事件"),
]


def as_text(calls: tuple[ToolCall, ...]) -> list[str]:
    return [f"{call.tool} {call.arguments['path']}" for call in calls]


@pytest.mark.parametrize(("goal", "tool", "path"), ONE_CALL)
def test_a_clear_goal_is_one_sure_call(goal: str, tool: str, path: str) -> None:
    found = recognise(goal)
    assert found.calls == (ToolCall(tool, {"path": path}),)
    assert (found.rest, found.category, found.kind) == ("", "simple", "fast")
    assert found.confidence >= 0.9
    assert found.first_step == f"{tool} {path}"
    assert path == "." or path in found.restated
    assert BUILT_IN.parse(found.calls[0]).name == tool


@pytest.mark.parametrize("goal", NO_CALL)
def test_what_only_sounds_like_a_call_is_none(goal: str) -> None:
    found = recognise(goal)
    assert found.calls == ()
    assert found.rest == found.first_step == ""
    assert found.confidence < 0.8
    assert found.restated == " ".join(goal.split())


@pytest.mark.parametrize(("goal", "tool", "path"), ONLY_WHERE_IT_IS_THERE)
def test_what_the_project_has_may_be_named_freely(goal: str, tool: str, path: str) -> None:
    assert recognise(goal, THERE).calls == (ToolCall(tool, {"path": path}),)
    assert recognise(goal, THERE).confidence >= 0.9
    assert recognise(goal).calls == (), "without knowing the project it may mean anything"
    assert recognise(goal, There(frozenset({"other"}), frozenset({"other.md"}))).calls == ()


@pytest.mark.parametrize("goal", [goal for goal in NO_CALL if goal not in ("list schemas", "read the README")])
def test_knowing_the_project_makes_no_call_of_what_is_none(goal: str) -> None:
    assert recognise(goal, THERE).calls == ()


def test_a_name_that_several_files_could_have_is_left_alone() -> None:
    assert recognise("read notes", THERE).calls == ()
    assert recognise("read notes.md", THERE).first_step == "read_file notes.md"


def test_a_file_is_read_by_the_name_it_has() -> None:
    assert recognise("what does the makefile say?", THERE).first_step == "read_file Makefile"
    assert recognise("Read the readme and list Docs", THERE).restated == (
        "Read the file README.md, then list the files in the folder Docs."
    )


@pytest.mark.parametrize(("goal", "calls", "rest"), SEVERAL)
def test_a_goal_of_several_parts_is_split(goal: str, calls: list[str], rest: str) -> None:
    found = recognise(goal)
    assert as_text(found.calls) == calls
    assert found.rest == rest
    assert found.category == "multi_step"
    assert found.confidence >= 0.9 if not rest else found.confidence == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("goal", "folders"),
    [
        ("List the files in schemas and consumers", ["schemas", "consumers"]),
        ("Show me the files in consumers and in schemas", ["consumers", "schemas"]),
        ("List the files in the folder schemas and in the folder llm", ["schemas", "llm"]),
        ("Покажи файлы в папке schemas и в папке llm", ["schemas", "llm"]),
        ("List the files in schemas, consumers and llm", ["schemas", "consumers", "llm"]),
        ("List the files in schemas, consumers, and llm.", ["schemas", "consumers", "llm"]),
        ("show the files in the folders schemas and llm", ["schemas", "llm"]),
        ("Покажи файлы в папках schemas, llm и consumers", ["schemas", "llm", "consumers"]),
        ("ls schemas and count", ["schemas"]),
        ("ls schemas, llm, and count", ["schemas"]),
        ("ls schemas, llm and whatever you think fits", ["schemas"]),
        ("list the files in schemas and summarise", ["schemas"]),
    ],
)
def test_a_second_folder_by_its_bare_name_is_listed_too_and_a_verb_is_no_folder(goal: str, folders: list[str]) -> None:
    assert [call.arguments["path"] for call in recognise(goal).calls] == folders


@pytest.mark.parametrize(
    ("goal", "restated"),
    [
        ("please ls schemas", "List the files in the folder schemas."),
        ("ls ..", 'List the files in the folder "..".'),
        ("list the files here", "List the files in the project's folder."),
        ("Read README.md and summarise it", "Read the file README.md, then summarise it."),
        ("read a.md. What is it?", "Read the file a.md, then What is it?"),
        ("открой «а б.txt»", 'Прочитай файл "а б.txt".'),
        ("读取README.md并总结", "读取文件 README.md，然后总结。"),
    ],
)
def test_calls_are_said_again_in_the_language_of_the_goal(goal: str, restated: str) -> None:
    assert recognise(goal).restated == restated


def test_a_very_long_goal_keeps_its_start_and_its_end() -> None:
    found = recognise("Fix this. " + "log line " * 7000 + "Thanks, Ann")
    assert found.restated.startswith("Fix this.")
    assert found.restated.endswith("Thanks, Ann")
    assert len(found.restated) < 2_100


@pytest.mark.parametrize(
    "goal", ["read ../secret.txt", "cat /etc/passwd", "cat ~/.ssh/id_rsa", "покажи файлы в папке .."]
)
def test_a_path_that_leaves_the_project_is_recognised_and_refused_by_the_tool(
    goal: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (call,) = recognise(goal).calls
    space = Workspace(tmp_path_factory.mktemp("project"))
    with pytest.raises(ToolRefused, match=r"path\.(parent|outside)"):
        (space.read if call.tool == READ else space.list)(call.arguments["path"])


def test_every_pattern_of_the_data_compiles_and_its_groups_are_arguments_of_its_tool() -> None:
    for rules in RULES.call:
        whole = rules.needs in ("alone", "dated")
        for text in rules.patterns:
            compiled = pattern(text)
            named = set(compiled.groupindex)
            assert compiled.groups == len(named), text
            assert named == ({"path"} if not whole and rules.needs != "nothing" else named - {"path"}), text
            given = {*named, *rules.arguments} - {"what"}
            assert given <= set(BUILT_IN.tools[rules.tool].parameters), text
