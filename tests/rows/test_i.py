"""I. Background orchestration over the table of tasks."""

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from consumers.postgres.database import Database
from consumers.tasks.cycle import Cycled
from consumers.tasks.task import NewTask
from deploy.tasks import TaskParts, task_parts
from schemas.events import GoalSubmitted, InferenceRequested
from tests.rows.conftest import Build
from tests.rows.house import House
from tests.workshop import eventually

LIST = "List the files in the folder docs"


@asynccontextmanager
async def workers(home: House, database: Database, count: int = 1) -> AsyncGenerator[TaskParts]:
    parts = [task_parts(home.victoria, database) for _ in range(count)]
    async with anyio.create_task_group() as tasks:
        for each in parts:
            await tasks.start(each.worker.run)
        yield parts[0]
        for each in parts:
            each.worker.stop()


async def test_I1_a_cycle_gives_each_task_to_its_best_expert_and_no_two_take_the_same(
    house: Build, database: Database
) -> None:
    async with house() as home, workers(home, database, 2) as parts:
        ids = await parts.tasks.add([NewTask(goal=LIST), NewTask(goal="Fix the CSS layout of the page")] * 10)

        async def over() -> bool:
            return all([(await parts.tasks.show(each)).over for each in ids])

        await eventually(over, 20)
        found = [await parts.tasks.show(each) for each in ids]
        assert Counter(task.assignee for task in found) == {"veronica": 10, "frontend": 10}
        begun = [each for task in found for each in await home.events(task.run, GoalSubmitted)]
        assert Counter((each.goal, each.expert) for each in begun) == {
            (LIST, ""): 10,
            ("Fix the CSS layout of the page", "frontend"): 10,
        }


async def test_I2_a_task_goes_through_the_pipeline_and_its_result_comes_back_into_its_row(
    house: Build, database: Database
) -> None:
    async with house({"answer": "It is 42."}) as home, workers(home, database) as parts:
        listed, answered = await parts.tasks.add([NewTask(goal=LIST), NewTask(goal="What is it?", expert="qa")])

        async def over() -> bool:
            return all([(await parts.tasks.show(each)).over for each in (listed, answered)])

        await eventually(over, 20)
        first, second = await parts.tasks.show(listed), await parts.tasks.show(answered)
        assert (first.status, first.output, first.knowledge["source"]) == ("completed", "alpha.txt\nbeta.txt", "tool")
        assert (await home.end(first.run)).output == first.output
        assert second.assignee == "qa"
        assert "qa" in second.knowledge["experts"]
        asked = await home.events(second.run, InferenceRequested)
        assert {each.priority for each in asked} == {"background"}, "what people ask comes first"


async def test_I3_by_hand_one_cycle_publishes_and_a_later_one_settles(house: Build, database: Database) -> None:
    async with house() as home:
        parts = task_parts(home.victoria, database)
        (task_id,) = await parts.tasks.add([NewTask(goal=LIST)])
        assert await parts.cycle.run() == Cycled(prioritised=1, assigned=1)
        assert await parts.publishing.publish_due() == 1
        await home.end(f"{task_id}-1")

        async def settled() -> bool:  # its end is said before it is in the run's state
            return await task_parts(home.victoria, database).cycle.run() == Cycled(settled=1)

        await eventually(settled)
        assert (await parts.tasks.show(task_id)).output == "alpha.txt\nbeta.txt"
