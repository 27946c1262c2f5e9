"""Which answers are given again: only to the very same goal, and only what rests on nothing that can't be looked at."""

from dataclasses import replace as with_fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consumers.answer_cache import AnswerCache, Wanted, clear, key_of, normal, staff_of
from consumers.experts.roster import Folders, Roster
from consumers.memory import Memory
from consumers.runs.reuse import BYTES, Reusable, reusable
from consumers.runs.state import RunState
from consumers.strategies.registry import BUILT_IN as STRATEGIES
from consumers.tools.list_directory import ListDirectory
from consumers.tools.read_file import ReadFile
from consumers.tools.registry import BUILT_IN as TOOLS
from consumers.tools.seen import MOST, unchanged, with_seen
from consumers.tools.tool import Site
from consumers.tools.workspace import Workspace
from consumers.understand import Reader
from consumers.words.names import Names
from consumers.words.routes import Routes
from schemas.errors import ErrorInfo
from schemas.events import Exchange, GoalSubmitted, RunFinished
from schemas.plan import Seen, ToolCall
from streams.connection import Client
from streams.keys import Keys
from streams.testing import ScriptedContext
from tests.consumers.runs import Run, asks, ended, hands, proposed, step

AT = datetime(2026, 1, 1, tzinfo=UTC)
MEMORY = Memory("m-1", "shop", "", AT, "fact", "The shop is in Bonn.", "user", "run:r")
WANTED = Wanted("What is a queue?", "shop")
KEY = "k" * 64


def key(wanted: Wanted = WANTED, staff: str = "staff") -> str:
    return key_of(wanted, staff)


@given(st.text(), st.text(alphabet=" \t"), st.sampled_from(["", " ", "\n", "\t "]))
def test_white_space_around_a_goal_and_within_its_lines_makes_no_difference(text: str, gap: str, around: str) -> None:
    assert normal(f"{around}{text}{around}") == normal(text)
    assert normal(normal(text)) == normal(text)
    assert normal(f"a {gap}b") == "a b"


def test_letters_count_and_not_how_they_are_composed() -> None:
    assert normal("cafe\u0301") == normal("caf\u00e9")
    assert normal("What is 2²?") != normal("What is 22?"), "compatibility forms mean something"
    assert normal("What is US?") != normal("what is us?")
    assert normal("if x:\n    y()\nz()") != normal("if x:\n    y()\n    z()"), "so does indentation"


@pytest.mark.parametrize(
    "other",
    [
        replace(WANTED, goal="What is a stack?"),
        replace(WANTED, project="lab"),
        replace(WANTED, asker="backup-1"),
        replace(WANTED, strategy="swarm"),
        replace(WANTED, expert="qa"),
        replace(WANTED, model="llama3.3:70b"),
        replace(WANTED, setting="You are a pirate."),
        replace(WANTED, history=(Exchange("a", "b"),)),
        replace(WANTED, before="qa"),
        replace(WANTED, memories=(MEMORY,)),
    ],
)
def test_whatever_an_answer_hangs_on_makes_another_key(other: Wanted) -> None:
    assert key(other) != key()
    assert key() != key(staff="other")


def test_a_memory_that_is_forgotten_or_comes_beside_the_others_makes_another_key() -> None:
    one, two = replace(WANTED, memories=(MEMORY,)), replace(WANTED, memories=(MEMORY, replace(MEMORY, id="m-2")))
    assert len({key(), key(one), key(two)}) == 3


@given(st.text(), st.text(), st.text(), st.text())
def test_no_goal_forges_the_key_of_another(goal: str, project: str, other: str, elsewhere: str) -> None:
    one, two = Wanted(goal, project), Wanted(other, elsewhere)
    assert (key(one) == key(two)) == ((normal(goal), project) == (normal(other), elsewhere))


def test_the_staff_is_another_once_an_expert_a_strategy_or_a_setting_is(tmp_path: Path) -> None:
    roster = Folders().roster()
    experts = [
        replace(each, instructions="Be brief.") if each.name == "qa" else each for each in roster.experts.values()
    ]
    fewer = with_fields(STRATEGIES, by_name={"react": STRATEGIES.by_name["react"]})
    moved = Roster(replace(each, source=str(tmp_path / "qa.yaml")) for each in roster.experts.values())
    first = staff_of(roster, STRATEGIES, TOOLS, "auto")
    assert first == staff_of(moved, STRATEGIES, TOOLS, "auto"), "where the files lie does not matter"
    others = [staff_of(Roster(experts), STRATEGIES, TOOLS, "auto"), staff_of(roster, fewer, TOOLS, "auto")]
    assert len({first, *others, staff_of(roster, STRATEGIES, TOOLS, "none")}) == 4


def test_only_tools_whose_calls_change_nothing_are_called_again() -> None:
    again = {name for name, tool in TOOLS.tools.items() if tool.arguments.again}
    assert again == {"read_file", "list_directory"}
    assert all(TOOLS.tools[name].effects == "none" for name in again)


async def test_what_was_read_is_seen_to_have_changed(tmp_path: Path) -> None:
    a, b = anyio.Path(tmp_path / "a.txt"), anyio.Path(tmp_path / "b.txt")
    await a.write_text("one")
    site = Site(Workspace(tmp_path))
    read, listed = ReadFile(thought="why", path="a.txt"), ListDirectory(thought="")
    sources = with_seen(with_seen((), read, await read.run(site)), listed, await listed.run(site))
    assert sources
    assert sources[0].call.arguments == {"path": "a.txt"}
    assert with_seen(sources, read, "one") == sources, "what was read twice is one source"
    assert await unchanged(sources, TOOLS, site)
    await a.write_text("two")
    assert not await unchanged(sources, TOOLS, site)
    await a.write_text("one")
    assert await unchanged(sources, TOOLS, site)
    await b.touch()
    assert not await unchanged(sources, TOOLS, site)
    await b.unlink()
    assert not await unchanged(sources, TOOLS, Site(Workspace(tmp_path, secrets=("a.txt",)))), "it is secret now"
    await a.unlink()
    assert not await unchanged(sources, TOOLS, site)


async def test_more_than_can_be_looked_at_again_is_not_kept_and_nothing_else_is_called(tmp_path: Path) -> None:
    sources: tuple[Seen, ...] | None = ()
    for number in range(MOST + 1):
        sources = with_seen(sources, ReadFile(thought="", path=f"{number}.txt"), "text")
    assert sources is None
    forged = Seen(ToolCall("run_terminal_cmd", {"argv": ["touch", "x"]}), "0")
    assert not await unchanged((forged,), TOOLS, Site(Workspace(tmp_path)))
    assert (await ListDirectory(thought="").run(Site(Workspace(tmp_path)))) == "(empty)"


def finished(*, key: str = KEY, **last: Any) -> Run:
    run = Run()
    run(replace(proposed(step("1", how="answer")), answer_key=key))
    fields: dict[str, Any] = {"sources": (), **last}
    run(ended("1", **fields))
    return run


def kept(run: Run) -> bool:
    (end,) = [event for event in run.said if isinstance(event, RunFinished)]
    assert end == run.state.finished
    return reusable(run.state) is not None


def test_a_whole_answer_of_a_model_is_kept_with_what_it_rests_on() -> None:
    seen = Seen(ToolCall("read_file", {"path": "a"}), "1")
    answer = reusable(finished(sources=(seen,)).state)
    assert answer
    assert (answer.key, answer.output, answer.method, answer.model) == (KEY, "out 1", "react", "big")
    assert (answer.project, answer.sources) == ("shop", (seen,))


@pytest.mark.parametrize(
    "last",
    [
        {"status": "partial"},
        {"status": "failed", "error": ErrorInfo("step.no_answer", "No.")},
        {"sources": None},
        {"agent": "veronica", "note": "It took two tries."},
        {"output": "x" * (BYTES + 1)},
        {"error": ErrorInfo("budget.tokens", "Over.")},
    ],
)
def test_what_is_not_whole_or_can_t_be_looked_at_again_is_not_kept(last: dict[str, Any]) -> None:
    assert not kept(finished(**last))


def test_where_nothing_may_be_kept_nothing_is() -> None:
    assert not kept(finished(key=""))
    assert reusable(RunState(answer_key=KEY)) is None


def test_an_answer_of_rules_or_tools_is_not_kept() -> None:
    run = Run()
    run(replace(proposed(step("1", how="tool")), answer_key=KEY))
    run(replace(ended("1", sources=()), source="tool"))
    assert not kept(run)


def test_where_a_plan_was_mended_or_a_step_handed_on_or_a_person_asked_nothing_is_kept() -> None:
    mended, handed, asked = Run(), Run(), Run()
    mended(
        replace(proposed(step("1"), notes=("Step '1' depended on itself.",)), answer_key=KEY), ended("1", sources=())
    )
    handed(replace(proposed(step("1", expert="qa")), answer_key=KEY), hands("1", "memo"), ended("1", sources=()))
    asked(replace(proposed(step("1")), answer_key=KEY), asks("1"))
    asked.state = replace(asked.state, steps={"1": replace(asked["1"], status="running", asking=None)})
    asked(ended("1", sources=()))
    assert not any(map(kept, (mended, handed, asked)))


@pytest.mark.parametrize(
    ("goal", "looked_up"),
    [
        ("What is a Redis stream?", True),
        ("Read test_answer_cache.py and summarise it", True),
        ("restart nginx on the staging cluster", False),
        ("List the files in the folder postgres", False),
        ("What day is it today?", False),
        ("Какой сегодня день?", False),
        ("What has changed since last week?", False),
    ],
)
async def test_it_is_looked_up_only_where_a_model_would_be_asked_and_nothing_is_to_be_carried_out(
    goal: str, looked_up: bool, client: Client, prefix: str
) -> None:
    def here(_project: str) -> Workspace:
        return Workspace(Path(__file__).parent)

    answers = AnswerCache(client, Keys(prefix), 600, str, here, TOOLS)
    reader = Reader(Names(here), Routes(Folders().roster), answers=answers)
    for event in (
        GoalSubmitted(goal=goal),
        GoalSubmitted(goal=goal, cache="off"),
        GoalSubmitted(goal=goal, delegated_by="qa"),
    ):
        ctx = ScriptedContext[None]()
        said = await reader.handle(event, ctx)
        found = any(name == "known" for name, _ in ctx.called)
        assert found == (looked_up and event.cache == "use" and not event.delegated_by)
        assert any(getattr(each, "answer_key", "") for each in said) == found


async def test_keeping_an_answer_twice_is_keeping_it_once_and_only_so_many_are_kept(
    client: Client, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Any = client
    keys, now = Keys(prefix), datetime.now(UTC)
    answers = AnswerCache(client, keys, 600, str, lambda _project: Workspace(Path("/nowhere")), TOOLS)
    monkeypatch.setattr("consumers.answer_cache.MOST", 3)

    async def keep(number: int) -> None:
        answer = Reusable(key=f"{number:064}", output=f"{number}", method="simple", model="m", project="shop")
        at = now + timedelta(seconds=number)
        for _ in range(2):
            assert await answers.keep(answer, f"run-{number}", at, "model")

    await keep(0)
    first = keys.known("shop", f"{0:064}")
    expires = await server.pexpiretime(first)
    await keep(0)
    assert await server.pexpiretime(first) == expires
    for number in range(1, 5):
        await keep(number)
    assert await server.zcard(keys.all_known("shop")) == 3
    assert [await server.exists(keys.known("shop", f"{n:064}")) for n in range(5)] == [0, 0, 1, 1, 1]
    assert await clear(client, keys, "lab") == 0
    assert await clear(client, keys, "shop") == 3
    assert not await server.exists(keys.all_known("shop"))


async def test_after_the_setting_became_a_shorter_time_an_older_answer_is_not_given(
    client: Client, prefix: str
) -> None:
    def cache(seconds: float) -> AnswerCache:
        return AnswerCache(client, Keys(prefix), seconds, str, lambda _project: Workspace(Path("/nowhere")), TOOLS)

    long, short = cache(3_600), cache(600)
    found = await long.look(WANTED)
    answer = Reusable(key=found.key, output="Then.", method="simple", model="m", project="shop")
    assert await long.keep(answer, "run-1", datetime.now(UTC) - timedelta(seconds=1_200), "model")
    assert (await long.look(WANTED)).answer
    assert await short.look(WANTED) == found
