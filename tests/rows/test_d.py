"""D. step-execute: steps are done side by side, with tools that keep to their limits, and may wait for people."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consumers.questions import REFUSED, OpenQuestion
from schemas.errors import InvalidInput
from schemas.events import (
    AnswerProgressed,
    QuestionAsked,
    ReplanRequested,
    RunProgressed,
    StepFinished,
    StepReady,
)
from schemas.plan import Limits, ToolCall
from streams.follow import seen
from tests.rows.conftest import Build
from tests.rows.given import planned, step, strategy_in
from tests.rows.house import Asked, House, in_turn
from tests.workshop import eventually

UNDERSTOOD = {
    "restated": "Why does the page X show errors?",
    "category": "investigate",
    "first_step": "list_directory docs",
}


@pytest.fixture(autouse=True)
def _given(tmp_path: Path) -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    strategy_in(tmp_path / "project-strategies_dir")


def act(tool: str, **arguments: Any) -> dict[str, Any]:
    """What a model says in one round."""
    return {"tool": tool, "thought": "because", **arguments}


FINISH = act("finish", answer="It is the port.")


# D1


async def test_D1_a_loop_thinks_acts_and_observes_until_it_finishes_and_first_sees_goal_and_first_step(
    house: Build,
) -> None:
    rounds = in_turn(act("list_directory", path="docs"), act("read_file", path="docs/beta.txt"), FINISH)
    async with house({"understand": UNDERSTOOD, "act": rounds}) as home:
        end = await home.run("page X errors why")
        assert (end.status, end.output, end.method) == ("completed", "It is the port.", "react")
        (summary,) = end.metadata.steps
        assert summary.tools == ("list_directory", "read_file")
        assert home.model
        assert all(asked.system.startswith("Plan and carry out") for asked in home.model.asked if asked.prompt == "act")
        first, second, third = (asked.user for asked in home.model.asked if asked.prompt == "act")
    assert "<goal>Why does the page X show errors?</goal>" in first
    assert "<hint>list_directory docs</hint>" in first
    assert "alpha.txt" in second
    assert "This is beta." in third


async def test_D1_there_are_all_tools_for_who_may_use_them(house: Build) -> None:
    more = {"ssh_hosts": "db-1", "search_url": "http://127.0.0.1:1"}
    async with house({"act": FINISH}, **more) as home:
        await home.run("@veronica Look around.", strategy="react")
        assert home.model
        (asked,) = (asked.user for asked in home.model.asked if asked.prompt == "act")
    tools = ["finish", "read_file", "list_directory", "run_terminal_cmd", "ssh_run", "web_search", "ask_user"]
    assert [tool for tool in tools if f"{tool}(" not in asked] == []


async def test_D1_a_loop_has_ten_rounds(house: Build) -> None:
    def never(_asked: Asked) -> dict[str, Any]:
        rounds.append(1)
        return act("read_file", path="docs/alpha.txt") if len(rounds) == 1 else act("read_file", path=f"{len(rounds)}")

    rounds: list[int] = []
    async with house({"understand": UNDERSTOOD, "act": never}) as home:
        end = await home.run("page X errors why")
        assert len(rounds) == 10
        assert (end.metadata.steps[0].status, end.output) == ("partial", "This is alpha.\n")


async def test_D1_the_same_call_a_third_time_ends_a_loop_with_the_best_answer_so_far(house: Build) -> None:
    async with house({"understand": UNDERSTOOD, "act": act("read_file", path="docs/alpha.txt")}) as home:
        end = await home.run("page X errors why")
        assert home.asked.count("act") == 3
        assert (end.metadata.steps[0].status, end.output) == ("partial", "This is alpha.\n")


# D2


async def test_D2_steps_run_side_by_side_as_their_needs_allow_and_never_more_than_three(house: Build) -> None:
    steps = [step(str(n)) for n in range(1, 7)]
    async with house({"answer": "done"}, delay=0.3) as home:
        run = await planned(home, *steps, step("7", "1", "4"), step("8", "7"))
        end = await home.end(run)
        events = await home.events(run)
    assert {each.status for each in end.metadata.steps} == {"ok"}
    at_work, most, over = set[str](), 0, set[str]()
    for event in events:
        if isinstance(event, StepReady):
            assert over >= set(event.step.depends_on)
            at_work.add(event.step.id)
        elif isinstance(event, StepFinished):
            at_work.remove(event.step_id)
            over.add(event.step_id)
        most = max(most, len(at_work))
    assert most == 3
    answered = next(stage for stage in end.stages if stage.stage == "step-execute")
    assert answered.events == 8
    assert end.metadata.seconds < answered.seconds, "they ran side by side"


# D3


async def test_D3_each_step_has_its_status_and_says_why_it_did_not_go_well(house: Build) -> None:
    def call(name: str, **arguments: str) -> dict[str, Any]:
        return {"how": "tool", "call": ToolCall(name, arguments)}

    async with house() as home:
        run = await planned(
            home,
            step("1", **call("read_file", path="README.md")),
            step("2", **call("read_file", path="none.md")),
            step("3", "2"),
            step("4", "3"),
            step("5"),
            step("6", "5", "1", **call("read_file", path="docs/beta.txt")),
            step("7", **call("ask_user", question="Which one?")),
            step("8", "7"),
        )

        async def only_waits() -> bool:
            return (await home.victoria.view(run)).status == "waiting"

        await eventually(only_waits)
        view = await home.victoria.view(run)
        await home.victoria.cancel(run)
        end = await home.end(run)
    before = ["ok", "failed", "blocked", "blocked", "partial", "ok", "waiting", "pending"]
    assert [each.status for each in view.steps] == before
    assert [each.status for each in end.metadata.steps] == [*before[:6], "skipped", "skipped"]
    why = [each.error.message if each.error else "" for each in end.metadata.steps]
    assert "none.md" in why[1]
    assert why[2:4] == ["It needs step '2', which ended as failed.", "It needs step '3', which ended as blocked."]
    assert why[4], "no model is there"


# D4


async def test_D4_who_follows_a_run_sees_plan_tasks_and_handoffs_and_the_words_as_they_come(house: Build) -> None:
    says = {"act": in_turn(act("missing_capability", needed="calendar"), FINISH), "answer": "word by word"}
    async with house(says) as home:
        run = await planned(home, step("1", how="react", expert="memo"), step("2", "1"))
        await home.end(run)
        told = await home.events(run, RunProgressed)
        feed: Any = await home.victoria.client.xrange(home.victoria.keys.feed(run))
    assert [(each.kind, each.step_id, each.status) for each in told] == [
        ("understood", "", None),
        ("plan", "", None),
        ("task_start", "1", None),
        ("handoff", "1", None),
        ("task_end", "1", "ok"),
        ("task_start", "2", None),
        ("task_end", "2", "ok"),
    ]
    assert told[1].plan
    assert told[3].text == "memo → schedule: calendar"
    envelopes = [seen("feed", entry_id, fields).envelope for entry_id, fields in feed]
    pieces = [each.body for each in envelopes if each and isinstance(each.body, AnswerProgressed)]
    assert "".join(piece.text for piece in pieces) == "word by word"
    assert {piece.step for piece in pieces} == {"2"}


# D5


async def test_D5_a_step_asks_waits_without_a_worker_and_goes_on_with_the_answer(house: Build) -> None:
    ask = act("ask_user", question="Which page?", choices=["X", "Y"])
    async with house({"act": in_turn(ask, act("finish", answer="Page X then."))}) as home:
        run = await planned(home, step("1", how="react"))
        asked = await home.said(run, QuestionAsked)
        assert (asked.question, asked.choices) == ("Which page?", ("X", "Y"))
        await eventually(lambda: nothing_is_held(home))
        listed = await open_question(home)
        assert (await home.victoria.view(run)).status == "waiting"
        assert (listed.run_id, listed.asking.id) == (run, asked.question_id)

        for unknown in (f"{run}.0123456789ab", "no-such-run.0123456789ab", "", "???"):
            with pytest.raises(InvalidInput) as refused:
                await home.victoria.questions.find(unknown)
            assert refused.value.code == "question.unknown"
            assert "victoria questions" in refused.value.hint
        await home.victoria.answer(listed, "X")
        end = await home.end(run)
        assert (end.status, end.output) == ("completed", "Page X then.")
        assert home.model
        assert "the user's answer: X" in home.model.asked[-1].user
        with pytest.raises(InvalidInput) as closed:
            await home.victoria.questions.find(asked.question_id)
        assert closed.value.code == "question.closed"
        assert [each async for each in home.victoria.questions.waiting()] == []


async def test_D5_a_question_nobody_answers_in_time_is_done_without(house: Build) -> None:
    says = {"act": in_turn(act("ask_user", question="Which page?"), act("finish", answer="All pages then."))}
    async with house(says, question_timeout=0.4) as home:
        run = await planned(home, step("1", how="react"))
        asked = await home.said(run, QuestionAsked)
        assert asked.expires
        assert asked.expires - datetime.now(UTC) < timedelta(seconds=0.5)
        end = await home.end(run)
        assert (end.status, end.output) == ("completed", "All pages then.")
        assert home.model
        assert "Nobody answered in time." in home.model.asked[-1].user


async def test_D5_where_nobody_is_there_nobody_is_asked(house: Build) -> None:
    says = {"act": in_turn(act("list_directory", path="."), act("finish", answer="Done without."))}
    tool = step("2", how="tool", call=ToolCall("ask_user", {"question": "Which one?"}))
    async with house(says) as home:
        run = await planned(home, step("1", how="react"), tool, submitted={"limits": Limits(unattended=True)})
        end = await home.end(run)
        assert "Done without." in end.output
        assert "Nobody is there to be asked." in end.output
        assert await home.events(run, QuestionAsked) == []
        assert home.model
        assert "ask_user" not in home.model.asked[0].user + home.model.asked[0].system


async def open_question(home: House) -> OpenQuestion:
    """Wait until a question is listed; it."""
    found: list[OpenQuestion] = []

    async def is_listed() -> bool:
        found[:] = [each async for each in home.victoria.questions.waiting()]
        return bool(found)

    await eventually(is_listed)
    (question,) = found
    return question


async def nothing_is_held(home: House) -> bool:
    """Whether no entry of step-execute is in anybody's hands, or put off."""
    keys, client = home.victoria.keys, home.victoria.client
    stream = keys.stream(keys.of_stream("step-execute")[0], "step-execute")
    summary: Any = await client.xpending(stream, "step-execute")
    delayed = await client.zcard(keys.delayed(keys.of_stream("step-execute")[0], "step-execute"))
    return not summary["pending"] and not delayed


# D6

SECRET = "the secret of this test"
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "by ..": (act("read_file", path="docs/../../secret.txt"), "path."),
    "by its absolute path": (act("read_file", path="{outside}/secret.txt"), "path."),
    "by a symlink": (act("read_file", path="link.txt"), "path."),
    "the folder above": (act("list_directory", path=".."), "path."),
    "with a shell": (act("run_terminal_cmd", argv=["sh", "-c", "cat ../secret.txt"]), "command."),
    "a program by its path": (act("run_terminal_cmd", argv=["/usr/bin/env"]), "command."),
    "with a program outside": (act("run_terminal_cmd", argv=["cat", "{outside}/secret.txt"]), "No such file"),
    "what is no tool": (act("rm", path="README.md"), ""),
}


@pytest.mark.parametrize("way", HOSTILE)
async def test_D6_tools_do_not_leave_their_limits(house: Build, tmp_path: Path, way: str) -> None:
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "project" / "link.txt").symlink_to(tmp_path / "secret.txt")
    call, code = HOSTILE[way]
    call = msgspec.json.decode(msgspec.json.encode(call).replace(b"{outside}", os.fsencode(tmp_path)))
    async with house({"act": in_turn(call, FINISH)}) as home:
        run = await planned(home, step("1", how="react", expert="veronica"))
        end = await home.end(run)
        assert home.model
        prompts = [asked.user for asked in home.model.asked if asked.prompt == "act"]
        events = [msgspec.json.encode(event).decode() for event in await home.events(run)]
    assert (end.status, (tmp_path / "secret.txt").read_text()) == ("completed", SECRET)
    assert not [text for text in (*prompts, *events) if SECRET in text]
    assert len(prompts) == 2
    assert code in prompts[1]


async def test_D6_a_program_sees_nothing_of_the_environment(house: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THIS_TEST", SECRET)
    look = act("run_terminal_cmd", argv=["cat", "/proc/self/environ"])
    async with house({"act": in_turn(look, FINISH)}) as home:
        await home.end(await planned(home, step("1", how="react", expert="veronica")))
        assert home.model
        assert SECRET not in home.model.asked[-1].user


@pytest.mark.parametrize("reply", ["no", "yes"])
async def test_D6_what_changes_something_outside_needs_a_persons_word(house: Build, reply: str) -> None:
    far = act("ssh_run", host="127.0.0.1", argv=["reboot"])
    # nobody listens there: with a yes it is tried
    async with house({"act": in_turn(far, FINISH)}, ssh_hosts="127.0.0.1:1") as home:
        run = await planned(home, step("1", how="react", expert="veronica"))
        asked = await home.said(run, QuestionAsked)
        assert asked.approval
        assert '["reboot"]' in asked.question
        listed = await open_question(home)
        await home.victoria.answer(listed, reply)
        await home.end(run)
        assert home.model
        told = home.model.asked[-1].user
    assert (REFUSED in told) == (reply == "no")
    assert ("ssh_run failed" in told) == (reply == "yes")


# D7

FLAKY = """
from pathlib import Path
from typing import ClassVar

from consumers.tools.tool import Site, ToolArguments
from schemas.errors import NotReachable, ToolRefused

class Flaky(ToolArguments, frozen=True, tag="flaky"):
    description: ClassVar[str] = "works the third time"

    async def run(self, site: Site) -> str:
        tries = Path(__file__).with_name("tries")
        count = len(tries.read_text()) if tries.exists() else 0
        tries.write_text("x" * (count + 1))
        if count < 2:
            raise NotReachable("flaky.away", "It is away for a moment.")
        return f"done at try {count + 1}"
"""


def tools_at(tmp_path: Path) -> Path:
    """The folder for a user's own tools, with those above."""
    folder = tmp_path / "project-tools_dir"
    folder.mkdir()
    (folder / "flaky.py").write_text(FLAKY)
    return folder


def tool(id_: str, name: str, *needs: str) -> Any:
    return step(id_, *needs, how="tool", call=ToolCall(name))


async def test_D7_what_is_worth_another_try_gets_one(house: Build, tmp_path: Path) -> None:
    tools_at(tmp_path)
    async with house() as home:
        end = await home.end(await planned(home, tool("1", "flaky")))
        assert (end.status, end.output) == ("completed", "done at try 3")


async def test_D7_what_is_not_goes_to_the_planner_with_the_reason_why(house: Build) -> None:
    def part(id_: str, instruction: str, *needs: str) -> dict[str, Any]:
        return {"id": id_, "title": id_, "instruction": instruction, "expert": "veronica", "depends_on": needs}

    def acting(asked: Asked) -> dict[str, Any]:
        return act("read_file", path="none.md") if "<goal>Read none.md" in asked.user else FINISH

    says = {
        "decompose": {"intent": "", "steps": [part("a", "Read none.md."), part("b", "Sum it up.", "a")]},
        "replan": {"intent": "", "steps": [part("a", "Do without."), part("b", "Sum that up.", "a")]},
        "act": acting,
    }
    async with house(says) as home:
        run = await home.submit("Read none.md and sum it up", strategy="parallel")
        asked = await home.said(run, ReplanRequested)
        end = await home.end(run)
        assert home.model
        (prompt,) = (each.user for each in home.model.asked if each.prompt == "replan")
    assert asked.why == "Step '1' failed: The loop ended without an answer."
    assert [each.instruction for each in asked.left] == ["Sum it up."]
    assert "<why>Step '1' failed: The loop ended without an answer.</why>" in prompt
    assert [(each.title, each.status) for each in end.metadata.steps] == [("a", "failed"), ("a", "ok"), ("b", "ok")]
    assert (end.status, end.output) == ("completed", "It is the port.")
    failed = end.metadata.steps[0].error
    assert failed
    assert (failed.code, failed.hint) == ("step.no_answer", "Try a larger model.")


# D8


def test_D8_the_registry_of_tools_says_name_schema_description_commands_and_looks(tmp_path: Path) -> None:
    tools_at(tmp_path)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("VICTORIA_")},
        "VICTORIA_ANSWER_CACHE": "0",
        "VICTORIA_TOOLS_DIR": str(tmp_path / "project-tools_dir"),
        "VICTORIA_STATE_DIR": str(tmp_path / "state"),
    }
    command = [sys.executable, "-m", "gateway.cli", "tools", "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, check=True, timeout=30)
    found = {each["name"]: each for each in msgspec.json.decode(done.stdout)}
    assert {"flaky", "memo_write", "read_file"} <= found.keys()
    tool = found["schedule_create"]
    assert tool["description"].startswith("put an entry into the calendar")
    assert tool["commands"] == ["/schedule TITLE START"]
    assert tool["look"]["shows"] == "listing"
    assert "start" in str(tool["schema"])


async def test_D8_profiles_choose_which_tools_they_offer(house: Build) -> None:
    experts = ("memo", "schedule", "veronica")
    async with house({"act": FINISH}) as home:
        await home.end(await planned(home, *(step(each, how="react", expert=each) for each in experts)))
        assert home.model
        asked = {each.user.partition("Do ")[2].partition(".")[0]: each for each in home.model.asked}
    offered = {name: {tool for tool in TOOLS if f"{tool}(" in each.user} for name, each in asked.items()}
    assert offered == {"memo": {"memo_write"}, "schedule": {"schedule_create"}, "veronica": {"run_terminal_cmd"}}
    for name, each in asked.items():
        assert {tool for tool in TOOLS if f'"{tool}"' in str(each.schema).replace("'", '"')} == offered[name]


TOOLS = {"memo_write", "schedule_create", "run_terminal_cmd"}
