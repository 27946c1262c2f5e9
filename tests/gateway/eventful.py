"""A run in which everything happens: several steps, a retry, a failed step, a question, another agent's work, tools."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.events import QuestionAnswered, QuestionAsked
from streams.history import History
from streams.tape import Tape
from tests.consumers.agents import fake_agent
from tests.rows.house import House, Says, act, at_work, finish, in_turn
from tests.rows.test_d import tools_at

GOAL = "Compare the plans in docs <script>alert(1)</script> 与旧计划, then run what they say and report"


def _part(id_: str, instruction: str, expert: str = "backend", *needs: str) -> dict[str, Any]:
    return {"id": id_, "title": instruction, "instruction": instruction, "expert": expert, "depends_on": needs}


def _acting(asked: Any) -> Any:
    goal = asked.user.partition("<goal>")[2].partition("</goal>")[0]
    if "Compare" in goal:
        return finish("There is alpha.") if "list_directory:" in asked.user else act("list_directory", path="docs")
    if "Fetch" in goal:
        return finish("It came.") if "done at try" in asked.user else act("flaky")
    if "Ask" in goal:
        return (
            finish("The new one.")
            if "answer:" in asked.user
            else act("ask_user", question="Which plan counts, 新 or old?")
        )
    return act("read_file", path="none.md")


def says() -> Mapping[str, Says]:
    """A new one for each run: it says some things in turn."""
    return {
        "understand": in_turn("no JSON at all", {"restated": GOAL, "category": "multi_step", "first_step": ""}),
        "decompose": {
            "intent": "",
            "steps": [
                _part("a", "Compare both plans, line by line"),
                _part("b", "Fetch the figures"),
                _part("c", "Ask which one counts"),
                _part("d", "Read the appendix"),
                _part("e", "Execute it and launch it", "veronica", "a"),
            ],
            "aggregate": True,
        },
        "act": _acting,
        "fuse": "All in all: alpha.",
    }


async def recorded(url: str, prefix: str, folder: Path, delay: float = 0.0) -> tuple[Tape, Tape]:
    """The run while it waits for a person, and after its end."""
    (folder / "project").mkdir()
    tools_at(folder)
    async with (
        fake_agent() as agent,
        at_work(url, prefix, folder / "project", says(), delay=delay, veronica_url=agent.url, agent="victoria") as home,
    ):
        run = await home.submit(GOAL, strategy="parallel")
        asked = await home.said(run, QuestionAsked)
        waiting = await _taped(home, run)
        await home.publish(run, QuestionAnswered(question_id=asked.question_id, answer="The new one."), "aggregate")
        await home.end(run)
        return waiting, await _taped(home, run)


async def _taped(home: House, run: str) -> Tape:
    return await History(home.victoria.client, home.victoria.keys, home.victoria.topology).tape(run)
