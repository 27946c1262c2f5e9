"""Notes: written once, found in any language, the newest first, and never another project's."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from consumers.redis_store import RedisStore
from consumers.step_execute import Executor
from consumers.tools.finish import Finish
from consumers.tools.memo import LISTED, MemoDelete, MemoList, MemoRead, MemoSearch, MemoWrite, Note
from consumers.tools.registry import BUILT_IN, carried_out
from consumers.tools.tool import Site, ToolArguments
from consumers.tools.workspace import Workspace
from schemas.errors import ToolRefused
from schemas.events import StepFinished, StepReady
from schemas.plan import Step, ToolCall
from streams.connection import Client
from streams.keys import Keys
from streams.testing import ScriptedContext

NOW = datetime(2026, 11, 23, 15, 4, tzinfo=UTC)
HOSTILE = "*?[a-z]\x00\x1b[2J {x} ../../etc </observations> $(reboot) \u202e '; DROP"

Projects = Callable[[str], "Notes"]


class Notes:
    """A project's notes as tools see them; every use is a call of its own, and a minute later."""

    def __init__(self, client: Client, keys: Keys, project: str) -> None:
        self.store, self.project, self.calls = RedisStore(client, keys, project), project, 0

    def site(self, call: int) -> Site:
        now = NOW + timedelta(minutes=call)
        return Site(Workspace(Path.cwd()), key=f"event-{self.project}/{call}", now=now, store=self.store)

    async def use(self, tool: ToolArguments) -> str:
        self.calls += 1
        return await carried_out(tool, self.site(self.calls))

    async def write(self, text: str, tags: str = "", note: str = "") -> str:
        """The id of the note."""
        found = re.search(r"\[(\w+)\]", await self.use(MemoWrite("", text, tags, note)))
        assert found
        return found[1]


@pytest.fixture
def projects(client: Client, prefix: str) -> Projects:
    return lambda name: Notes(client, Keys(prefix, 4), name)


@pytest.fixture
def notes(projects: Projects) -> Notes:
    return projects("garden")


async def test_a_note_is_written_read_changed_and_deleted(notes: Notes) -> None:
    name = await notes.write("Water the roses\n- twice", "Garden, #summer")
    assert await notes.use(MemoRead("", name)) == (
        f"[{name}] 2026-11-23 15:05 (garden, summer)\nWater the roses\n- twice"
    )
    assert await notes.use(MemoWrite("", "Water them once", id=f"[{name}]")) == (
        f"Changed note [{name}] 2026-11-23 15:07 (garden, summer): Water them once"
    )
    assert await notes.use(MemoDelete("", f"note #{name}")) == f"Deleted note {name}."
    with pytest.raises(ToolRefused, match=r"note\.unknown"):
        await notes.use(MemoRead("", name))
    assert "now: it was deleted before, or never was." in await notes.use(MemoDelete("", name))


async def test_a_call_that_is_done_again_writes_one_note(notes: Notes) -> None:
    write = MemoWrite("", "Water the roses")
    first = await write.run(notes.site(1))
    assert await write.run(notes.site(1)) == first
    assert len(await notes.store.scan(Note)) == 1
    await write.run(notes.site(2))
    assert len(await notes.store.scan(Note)) == 2, "another call is another note"


async def test_a_call_that_is_done_again_does_not_undo_a_later_change(notes: Notes) -> None:
    name = await notes.write("Water the roses")
    await notes.write("Water the lilies", note=name)
    await MemoWrite("", "Water the roses").run(notes.site(1))
    assert [note.text for note in await notes.store.scan(Note)] == ["Water the lilies"]


async def test_a_step_that_is_delivered_twice_writes_one_note_and_a_model_that_repeats_itself_too(
    notes: Notes, tmp_path: Path
) -> None:
    write = MemoWrite("so", "Water the roses")
    executor = Executor(lambda _: Workspace(tmp_path), 5, BUILT_IN, stores=lambda _project: notes.store)
    event = StepReady(step=Step("1", "t", "Note it.", expert="memo"), goal="Note it.")
    for _ in range(2):
        answers: dict[str, object] = {"act-1": write, "act-2": write, "act-3": Finish("", "done")}
        (finished,) = await executor.handle(event, ScriptedContext[None](answers=answers))
        assert isinstance(finished, StepFinished)
        assert (finished.status, finished.output) == ("ok", "done")
    (note,) = await notes.store.scan(Note)
    assert note.at == datetime(2026, 1, 1, tzinfo=UTC), "the time at which the event came"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("MILK", "Buy milk and bread"), ("молока", "Купить МОЛОКО и хлеб"), ("牛奶", "记得买两盒牛奶"),
        ("where is the key", "The key is under the third stone"), ("shopping", "Pears"), ("ключ", "ключи у соседа"),
    ],
)  # fmt: skip
async def test_words_find_notes_in_any_language_and_in_tags(notes: Notes, words: str, text: str) -> None:
    for each in ("Buy milk and bread", "Купить МОЛОКО и хлеб", "记得买两盒牛奶", "The key is under the third stone"):
        await notes.write(each)
    await notes.write("Pears", "shopping")
    await notes.write("ключи у соседа")
    assert (await notes.use(MemoSearch("", words))).splitlines()[0].endswith(text)


async def test_the_best_match_comes_first_and_none_is_said(notes: Notes) -> None:
    assert await notes.use(MemoSearch("", "roses")) == "There are no notes yet."
    await notes.write("Red roses and red tulips")
    await notes.write("Roses")
    for number in range(10):
        await notes.write(f"red {number}")
    lines = (await notes.use(MemoSearch("", "red roses"))).splitlines()
    assert lines[0].endswith("Red roses and red tulips")
    assert lines[-1] == "(4 more are less like it)"
    assert await notes.use(MemoSearch("", "oak")) == "None of 12 notes has any of these words: oak"


async def test_notes_are_listed_the_newest_first_by_tag_and_page(notes: Notes) -> None:
    assert await notes.use(MemoList("")) == "There are no notes yet."
    for number in range(LISTED + 5):
        await notes.write(f"note {number}", "even" if number % 2 == 0 else "odd")
    lines = (await notes.use(MemoList(""))).splitlines()
    assert [line.rpartition(" ")[2] for line in lines[:-1]] == [str(LISTED + 4 - n) for n in range(LISTED)]
    assert lines[-1].startswith("(5 more are older than ")
    after = lines[-1].rpartition(" ")[2].rstrip(")")
    rest = (await notes.use(MemoList("", after=after))).splitlines()
    assert [line.rpartition(" ")[2] for line in rest] == ["4", "3", "2", "1", "0"]
    assert len((await notes.use(MemoList("", tag="#Even"))).splitlines()) == 13
    assert await notes.use(MemoList("", tag="none")) == "No note has the tag none."
    with pytest.raises(ToolRefused, match=r"note\.unknown"):
        await notes.use(MemoList("", after="zzz"))


async def test_no_project_sees_the_notes_of_another(projects: Projects) -> None:
    garden, house = projects("garden"), projects("house")
    name = await garden.write("Water the roses")
    assert await house.use(MemoList("")) == "There are no notes yet."
    assert await house.use(MemoSearch("", "roses")) == "There are no notes yet."
    with pytest.raises(ToolRefused):
        await house.use(MemoRead("", name))
    await house.use(MemoDelete("", name))
    assert "roses" in await garden.use(MemoRead("", name))


async def test_hostile_text_is_kept_and_shown_without_what_a_terminal_would_obey(notes: Notes) -> None:
    name = await notes.write(HOSTILE, HOSTILE)
    (note,) = await notes.store.scan(Note)
    assert note.text == HOSTILE
    for tool in (MemoRead("", name), MemoList(""), MemoSearch("", "DROP"), MemoSearch("", HOSTILE)):
        said = await notes.use(tool)
        assert name in said
        assert all(character.isprintable() or character == "\n" for character in said)
    for given in ("*", "../x", "a/b", "\x00", "", "{}"):
        assert "There is no note" in await notes.use(MemoDelete("", given))
    assert await notes.use(MemoSearch("", "*")) == "None of 1 notes has any of these words: *"


@pytest.mark.parametrize("text", ["", "x" * 4_001])
def test_too_much_or_no_text_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ToolRefused) as caught:
        BUILT_IN.parse(ToolCall("memo_write", {"text": text}))
    assert caught.value.code == "tool.arguments"
    assert "length" in caught.value.message


async def test_the_longest_note_there_can_be_is_kept(notes: Notes) -> None:
    name = await notes.write("\x00" * 4_000, "\x00," * 100)
    assert len((await notes.use(MemoRead("", name))).splitlines()[1]) == 16_000
    with pytest.raises(ToolRefused, match=r"note\.empty"):
        await notes.use(MemoWrite("", " \n "))


async def test_without_a_store_a_tool_says_so() -> None:
    for tool in (MemoWrite("", "x"), MemoSearch("", "x"), MemoList(""), MemoRead("", "x"), MemoDelete("", "x")):
        with pytest.raises(ToolRefused, match=r"store\.none"):
            await carried_out(tool, Site(Workspace(Path.cwd()), key="k"))
