"""Goals that many publish at once: each gets in once, and who gives up neither loses nor keeps anybody else's."""

import asyncio
import random

from schemas.events import GoalSubmitted
from streams.append import Publisher
from tests.workshop import Workshop


async def test_who_gives_up_in_between_keeps_nobody_else_from_getting_in(workshop: Workshop) -> None:
    publisher, dice = Publisher(workshop.client, workshop.keys), random.Random(7)

    async def publish(number: int) -> None:
        await asyncio.sleep(dice.random() / 50)
        await publisher.publish([(f"run-{number}", GoalSubmitted(goal=f"goal {number}"))], "intake")

    tasks = [asyncio.create_task(publish(number)) for number in range(400)]
    leaving = tasks[::3]
    for task in leaving:
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(dice.random() / 40, task.cancel)
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)

    got_in = [entry.envelope.run for entry in await workshop.entries("intake") if entry.envelope]
    assert len(got_in) == len(set(got_in))
    stayed = {f"run-{number}" for number, end in enumerate(ends) if end is None}
    assert set(got_in) >= stayed
    assert len(stayed) >= 400 - len(leaving)


async def test_when_all_give_up_nothing_comes_later_and_the_next_one_gets_in(workshop: Workshop) -> None:
    publisher = Publisher(workshop.client, workshop.keys)
    goals = [(f"run-{number}", GoalSubmitted(goal="x" * 1000)) for number in range(5_000)]
    task = asyncio.create_task(publisher.publish(goals, "intake"))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    await publisher.publish([("last", GoalSubmitted(goal="x"))], "intake")
    count = len(await workshop.entries("intake"))
    await asyncio.sleep(0.1)
    assert len(await workshop.entries("intake")) == count < 5_001
