"""Read this first. A stage is a function from one typed event to a list of typed events: no server is needed."""

from pathlib import Path

from consumers.tools.workspace import Workspace
from consumers.understand import Reader, Understanding
from consumers.words.names import Names
from schemas.errors import EffectFailed
from schemas.events import GoalSubmitted, GoalUnderstood, RunProgressed
from schemas.plan import ToolCall
from streams.testing import ScriptedContext

READER = Reader(Names(lambda _project: Workspace(Path(__file__).parent)))


async def test_rules_understand_a_plain_goal_without_asking_a_model() -> None:
    ctx = ScriptedContext[None]()

    understood, progress = await READER.handle(GoalSubmitted(goal="List the files in the folder schemas"), ctx)

    assert isinstance(understood, GoalUnderstood)
    assert understood.calls == (ToolCall("list_directory", {"path": "schemas"}),)
    assert isinstance(progress, RunProgressed)
    assert ctx.asked == []


async def test_what_rules_are_not_sure_of_a_model_restates() -> None:
    answer = Understanding("Find out why the start page of the shop is slow.", "investigate", "list_directory shop")
    ctx = ScriptedContext[None](answers={"understand": answer})

    goal = "why's the start page of the shop so slow, find out!"
    understood, _ = await READER.handle(GoalSubmitted(goal=goal), ctx)

    assert isinstance(understood, GoalUnderstood)
    assert (understood.restated, understood.source) == (answer.restated, "model")
    assert ctx.trust == "model"


async def test_without_a_model_the_rules_go_on_alone() -> None:
    ctx = ScriptedContext[None](answers={"understand": EffectFailed("model.none", "There is no model.")})

    understood, _ = await READER.handle(GoalSubmitted(goal="What is a Redis stream?"), ctx)

    assert isinstance(understood, GoalUnderstood)
    assert (understood.restated, understood.category) == ("What is a Redis stream?", "simple")
    assert understood.source == "rules"
