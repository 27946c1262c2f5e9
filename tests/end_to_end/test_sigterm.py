"""SIGTERM under load: a worker settles what it holds, leaves nothing behind, and another one goes on."""

from tests.end_to_end.conftest import Processes
from tests.end_to_end.test_kill_9 import GOAL, STAGES, all_ended, doubled_events, ends
from tests.workshop import eventually

RUNS = 400


async def test_a_stage_told_to_stop_under_load_leaves_nothing_pending_and_nothing_is_repeated(
    processes: Processes,
) -> None:
    processes.environ["VICTORIA_MODEL"] = "none"
    workshop, victim, stream = processes.workshop, "step-execute", "step-execute"
    for stage in STAGES:
        processes.start(stage)
    await processes.ready(*STAGES)
    runs = await workshop.publish(*[GOAL] * RUNS)
    key = workshop.keys.stream("0", stream)

    async def at_work() -> bool:
        return (await workshop.client.xpending(key, victim))["pending"] > 0

    await eventually(at_work, within=30)
    leaving = processes.running.pop(victim)
    leaving.terminate()
    assert leaving.wait(timeout=20) == 0
    assert (await workshop.client.xpending(key, victim))["pending"] == 0
    assert await workshop.client.xinfo_consumers(key, victim) == []
    assert len(await ends(workshop)) < RUNS, "it was told in the midst of its work"

    processes.start(victim)
    await eventually(lambda: all_ended(workshop, RUNS), within=60)
    finished = await ends(workshop)
    assert sorted(finished) == sorted(runs)
    assert {len(each) for each in finished.values()} == {1}
    assert await doubled_events(workshop) == []
    assert await workshop.entries("dead") == []
    assert set(processes.stop_all().values()) == {0}
