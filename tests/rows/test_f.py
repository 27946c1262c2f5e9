"""F. aggregate: it tracks a run, ends it once, with one answer, within its budget, and at once where that is wanted."""

import os
import subprocess
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.settings import Settings
from schemas.errors import ErrorInfo, ModelFailed
from schemas.events import (
    CancelRequested,
    DeadlinePassed,
    PlanProposed,
    QuestionAsked,
    RunFinished,
    StageFailed,
    StepFinished,
    StepReady,
)
from schemas.plan import Limits, Plan, ToolCall
from tests.consumers.agents import FakeAgent, fake_agent
from tests.rows.conftest import Build
from tests.rows.given import planned, step, strategy_in
from tests.rows.house import Asked, House
from tests.workshop import eventually


@pytest.fixture(autouse=True)
def _given(tmp_path: Path) -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    strategy_in(tmp_path / "project-strategies_dir")


@pytest.fixture
async def veronica() -> AsyncIterator[FakeAgent]:
    async with fake_agent() as agent:
        yield agent


def told(asked: Asked) -> str:
    """`<step> said.` for `Do <step>.`"""
    return f"{asked.user.partition('Do ')[2].partition('.')[0]} said."


# F1


async def test_F1_an_answer_larger_than_any_event_is_cut_and_ends_its_run(house: Build) -> None:
    async with house() as home:
        for number in range(6):
            (home.folder / f"z{number}.txt").write_text(chr(1 + number) * 262_144)  # six bytes each, in JSON
        end = await home.run("Read z0.txt. Read z1.txt. Read z2.txt. Read z3.txt. Read z4.txt. Read z5.txt")
        assert end.status == "completed"
        assert "characters left out" in end.output
        given = [step(str(n)) for n in range(1, 4)]
        wide = step("x" * 300, *(str(number) for number in range(10_000)))
        end = await home.end(await planned(home, *given, wide))
        assert end.status == "completed"
        assert len(end.metadata.notes) <= 51


async def test_F1_a_run_is_tracked_from_step_to_step_and_ends_exactly_once(house: Build) -> None:
    late = [
        CancelRequested(reason="Too late."),
        DeadlinePassed(),
        StageFailed(stage="plan", error=ErrorInfo("stage.error", "Late.")),
        StepFinished(step_id="1", status="failed"),
        PlanProposed(restated="Another.", plan=Plan("given", (step("9"),))),
    ]
    async with house({"answer": told}) as home:
        run = await planned(home, step("1"), step("2", "1"), step("3", "1", "2"))
        end = await home.end(run)
        ready = await home.events(run, StepReady)
        for event in late:
            assert await home.victoria.publisher.add(run, event, "aggregate", about="late")
        last = await planned(home, step("1"))
        await home.end(last)
        assert await home.events(run, RunFinished) == [end]
        assert await home.events(run, StepReady) == ready
        assert (await home.victoria.view(run)).finished == end
    assert [(event.step.id, event.inputs) for event in ready] == [
        ("1", {}),
        ("2", {"1": "1 said."}),
        ("3", {"1": "1 said.", "2": "2 said."}),
    ]
    assert end.status == "completed"


# F2


async def test_F2_several_answers_become_one_by_a_model_where_the_plan_asks_for_it(house: Build) -> None:
    async with house({"answer": told, "fuse": "All in one."}) as home:
        fused = await home.end(await planned(home, step("1"), step("2"), aggregate=True))
        plain = await home.end(await planned(home, step("1"), step("2"), aggregate=False))
        single = await home.end(await planned(home, step("1"), aggregate=True))
        assert home.asked.count("fuse") == 1
        assert home.model
        (asked,) = (each.user for each in home.model.asked if each.prompt == "fuse")
    assert (fused.output, single.output) == ("All in one.", "1 said.")
    assert plain.output == "## title 1\n\n1 said.\n\n## title 2\n\n2 said."
    assert plain.output in asked


async def test_F2_where_that_fails_they_follow_each_other_in_plan_order(house: Build) -> None:
    says = {"answer": told, "fuse": ModelFailed("model.refused", "No.")}
    async with house(says) as home:
        end = await home.end(await planned(home, step("1", "2"), step("2"), step("3"), aggregate=True))
        assert "fuse" in home.asked
    assert end.status == "completed"
    assert end.output == "\n\n".join(f"## title {n}\n\n{n} said." for n in (1, 2, 3))


# F3


async def test_F3_an_answer_says_how_it_came_about(house: Build, veronica: FakeAgent) -> None:
    async with house({"answer": told}, veronica_url=veronica.url, delay=0.1) as home:
        end = await home.end(
            await planned(
                home,
                step("1", expert="memo"),
                step("2", how="tool", call=ToolCall("read_file", {"path": "README.md"})),
                step("3", agent="veronica", expert="veronica"),
                notes=("a note of the planner's",),
            )
        )
        by_rules = await home.run("Read README.md")
    assert (end.method, by_rules.method) == ("given", "rules")
    found = end.metadata
    assert (found.model in ("scripted", "far-model"), found.source, found.delegated_to) == (True, "agent", "veronica")
    assert found.notes == ("a note of the planner's",)
    own = found.steps[0].usage
    assert own.tokens_in > 10
    assert own.tokens_out == 2
    assert (found.tokens_in, found.tokens_out, found.calls) == (own.tokens_in + 30, 2 + 12, 2)
    assert [(each.id, each.status, each.expert, each.agent, each.tools) for each in found.steps] == [
        ("1", "ok", "memo", "", ()),
        ("2", "ok", "", "", ("read_file",)),
        ("3", "ok", "veronica", "veronica", ()),
    ]
    assert 0.1 <= found.steps[0].seconds <= found.seconds < 10
    assert [each.stage for each in end.stages] == ["understand", "plan", "step-execute", "delegate", "aggregate"]
    assert (by_rules.metadata.model, by_rules.metadata.source, by_rules.metadata.calls) == ("none", "tool", 0)


# F4

LONG = " ".join(["word"] * 280)


async def used(home: House, run: str) -> dict[str, int]:
    found: Any = await home.victoria.client.hgetall(home.victoria.keys.budget(run))
    return {name.decode(): int(value) for name, value in found.items() if value.isdigit()}


async def test_F4_steps_side_by_side_do_not_overspend_a_runs_tokens_and_the_answer_says_where_it_stopped(
    house: Build,
) -> None:
    steps = [step(str(n)) for n in range(1, 6)]
    async with house({"answer": LONG}, delay=0.1) as home:
        free = await home.end(await planned(home, *steps))
        one = (free.metadata.tokens_in + free.metadata.tokens_out) // 5
        limits = Limits(tokens=int(2.5 * one))
        run = await planned(home, *steps, submitted={"limits": limits})
        end = await home.end(run)
        spent = await used(home, run)
    cost = end.metadata.tokens_in + end.metadata.tokens_out
    assert one < cost <= limits.tokens, "not even one answer too much"
    assert spent == {"used": cost, "reserved": 0, "calls": end.metadata.calls}
    assert end.error
    assert (end.status, end.error.code) == ("completed", "budget.tokens")
    assert f"{limits.tokens:,} tokens" in end.error.message
    assert LONG in end.output
    statuses = [each.status for each in end.metadata.steps]
    assert statuses.count("ok") == end.metadata.calls
    assert {"failed", "skipped"} & set(statuses)


async def test_F4_what_is_delegated_counts_too(house: Build, veronica: FakeAgent) -> None:
    async with house({"answer": told}, veronica_url=veronica.url) as home:
        run = await planned(
            home, step("1", agent="veronica", expert="veronica"), submitted={"limits": Limits(tokens=4_000)}
        )
        await home.end(run)
        assert await used(home, run) == {"used": 42, "reserved": 0, "calls": 1}
    assert veronica.asked[0].body["max_tokens"] == 1_000, "a share of what is left"


async def test_F4_calls_of_models_are_limited_too(house: Build) -> None:
    async with house({"answer": told}) as home:
        steps = [step(str(n)) for n in range(1, 6)]
        end = await home.end(await planned(home, *steps, submitted={"limits": Limits(calls=2)}))
    assert end.error
    assert (end.status, end.error.code, end.metadata.calls) == ("completed", "budget.calls", 2)


async def test_F4_a_limit_that_leaves_nothing_to_put_answers_together_with_is_said(house: Build) -> None:
    async with house({"answer": told, "fuse": "All in one."}) as home:
        run = await planned(home, step("1"), step("2"), aggregate=True, submitted={"limits": Limits(calls=2)})
        end = await home.end(run)
        assert "fuse" not in home.asked
    assert end.error
    assert (end.status, end.error.code) == ("completed", "budget.calls")
    assert end.output == "## title 1\n\n1 said.\n\n## title 2\n\n2 said."


async def test_F4_at_the_deadline_the_best_partial_answer_is_the_answer_and_says_so(
    house: Build, veronica: FakeAgent
) -> None:
    veronica.free.clear()
    steps = (
        step("1", how="tool", call=ToolCall("read_file", {"path": "README.md"})),
        step("2"),
        step("3", agent="veronica", expert="veronica"),
        step("4", "2", "3"),
        step("5", how="tool", call=ToolCall("ask_user", {"question": "Which one?"})),
    )
    async with house({"answer": told}, delay=60, veronica_url=veronica.url) as home:
        ends = datetime.now(UTC) + timedelta(seconds=4)
        run = await planned(home, *steps, submitted={"limits": Limits(ends=ends)})
        end = await home.end(run)
        late = (datetime.now(UTC) - ends).total_seconds()
        assert await home.events(run, QuestionAsked)
        assert [each async for each in home.victoria.questions.waiting()] == []
    assert late < 5
    assert end.error
    assert (end.status, end.error.code) == ("completed", "budget.deadline")
    assert end.output == "# A small project\n"
    statuses = [each.status for each in end.metadata.steps]
    assert statuses[0] == "ok"
    assert set(statuses[1:]) <= {"skipped", "failed"}
    assert veronica.did == {}


async def test_F4_a_deadline_while_answers_are_put_together_loses_none_of_them(house: Build) -> None:
    async with house({"fuse": "too late"}, delay=60) as home:
        ends = datetime.now(UTC) + timedelta(seconds=4)
        run = await planned(home, *READS, aggregate=True, submitted={"limits": Limits(ends=ends)})
        end = await home.end(run)
    assert end.error
    assert (end.status, end.output, end.error.code) == ("completed", BOTH, "budget.deadline")
    assert [each.status for each in end.metadata.steps] == ["ok", "ok"]


async def test_F4_a_deadline_with_nothing_done_yet_fails_and_says_so(house: Build) -> None:
    async with house({"answer": told}, delay=60) as home:
        ends = datetime.now(UTC) + timedelta(seconds=1)
        end = await home.end(await planned(home, step("1"), submitted={"limits": Limits(ends=ends)}))
    assert end.error
    assert (end.status, end.error.code) == ("failed", "budget.deadline")
    assert end.error.message in end.output


# F5

WITHIN = 2.0
"""Seconds in which all must be over, on a busy machine too; it takes a quarter of one, as the test's record says."""
ASLEEP = f"39{os.getpid()}"
"""Seconds that a program sleeps, by which it is found among all processes."""
SLOW = f'''
from typing import ClassVar

from consumers.tools.run_terminal_cmd import RunTerminalCmd
from consumers.tools.tool import Site, ToolArguments

class Slow(ToolArguments, frozen=True, tag="slow"):
    description: ClassVar[str] = "a program that takes long"

    async def run(self, site: Site) -> str:
        return await RunTerminalCmd("", ("sleep", "{ASLEEP}")).run(site)
'''


def sleeps() -> bool:
    """Whether the slow program runs."""
    return f"sleep {ASLEEP}" in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


async def held(home: House, *stages: str) -> int:
    """How many entries of these stages are in hand."""
    keys, count = home.victoria.keys, 0
    for stage in stages:
        reads = home.victoria.topology.stage(stage).reads
        found: Any = await home.victoria.client.xpending(keys.stream(keys.of_stream(reads)[0], reads), stage)
        count += found["pending"]
    return count


async def test_F5_cancelling_ends_steps_questions_programs_delegated_work_and_model_calls_at_once(
    house: Build, veronica: FakeAgent, tmp_path: Path, record_property: Any
) -> None:
    (tmp_path / "project-tools_dir").mkdir()
    (tmp_path / "project-tools_dir" / "slow.py").write_text(SLOW)
    veronica.free.clear()
    settings = {"programs": f"{Settings().programs}, sleep", "veronica_url": veronica.url}
    steps = (
        step("1", how="tool", call=ToolCall("ask_user", {"question": "Which one?"})),
        step("2", how="tool", call=ToolCall("slow")),
        step("3", agent="veronica", expert="veronica"),
        step("4"),
        step("5", "2", "3", "4"),
    )
    async with house({"answer": told}, delay=60, **settings) as home:
        run = await planned(home, *steps)
        assert home.model
        engine = home.model.engine

        async def all_at_it() -> bool:
            return bool(await home.events(run, QuestionAsked) and veronica.asked and engine.requests and sleeps())

        await eventually(all_at_it)
        assert await held(home, "step-execute", "delegate", "infer.local") == 4

        async def all_over() -> bool:
            return not (sleeps() or await held(home, "step-execute", "delegate", "infer.local")) and veronica.left == 1

        began = time.monotonic()
        await home.victoria.cancel(run, "Enough.")
        end = await home.end(run, WITHIN)
        said = time.monotonic() - began
        await eventually(all_over, WITHIN)
        over = time.monotonic() - began
        assert [each async for each in home.victoria.questions.waiting()] == []
    record_property("cancelling", f"said after {said:.2f} s, everything over after {over:.2f} s")
    assert end.error
    assert (end.status, end.error.code, end.error.message) == ("cancelled", "run.cancelled", "Enough.")
    assert {each.status for each in end.metadata.steps} == {"skipped"}
    assert len(veronica.taken_back) == 1
    assert (home.asked, veronica.did) == ([], {}), "nothing was finished"


READS = [
    step(str(n), how="tool", call=ToolCall("read_file", {"path": path}))
    for n, path in enumerate(("README.md", "docs/beta.txt"), 1)
]
BOTH = "## title 1\n\n# A small project\n\n\n## title 2\n\nThis is beta.\n"


@pytest.mark.parametrize("asked", ["understand", "decompose", "fuse"])
async def test_F5_cancelling_ends_what_is_being_understood_planned_or_put_together(
    house: Build, asked: str, record_property: Any
) -> None:
    stages = "understand", "plan", "aggregate", "infer.local"
    async with house({asked: "too late"}, delay=60) as home:
        match asked:
            case "understand":
                run = await home.submit("page X errors why")
            case "decompose":
                run = await home.submit("Look at X and at Y", expert="veronica", strategy="parallel")
            case _:
                run = await planned(home, *READS, aggregate=True)
        assert home.model
        engine = home.model.engine

        async def is_asked() -> bool:
            return bool(engine.requests)

        async def nothing_is_held() -> bool:
            return not await held(home, *stages)

        await eventually(is_asked)
        began = time.monotonic()
        await home.victoria.cancel(run)
        end = await home.end(run, WITHIN)
        await eventually(nothing_is_held, WITHIN)
        over = time.monotonic() - began
        assert home.asked == []
        assert await home.events(run, RunFinished) == [end]
    record_property(f"cancelling while {asked} is asked", f"everything over after {over:.2f} s")
    assert end.status == "cancelled"
    assert end.output == (BOTH if asked == "fuse" else "The run was cancelled.")
