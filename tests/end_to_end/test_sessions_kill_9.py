"""kill -9 on a stage in the midst of many sessions: every turn is answered, in its order, and kept once."""

import pytest

from consumers.admission import admit
from consumers.sessions import Sessions
from schemas.events import GoalSubmitted
from tests.end_to_end.conftest import Processes
from tests.end_to_end.test_kill_9 import all_ended, doubled_events, ends
from tests.workshop import Workshop, eventually

STAGES = {
    "understand": "intake",
    "plan": "plan",
    "step-execute": "step-execute",
    "aggregate": "aggregate",
    "memory-compress": "memory-compress",
}
SESSIONS, TURNS = 80, 3


async def all_handled(workshop: Workshop) -> bool:
    """Whether no stage has anything left to do."""
    groups = [await workshop.client.xinfo_groups(workshop.keys.stream("0", stream)) for stream in STAGES.values()]
    return not any(group["lag"] or group["pending"] for each in groups for group in each)


@pytest.mark.parametrize(
    "victim",
    [
        pytest.param("understand", marks=pytest.mark.heavy),
        pytest.param("aggregate", marks=pytest.mark.heavy),
        "memory-compress",
    ],
)
async def test_a_killed_stage_breaks_no_session(processes: Processes, victim: str) -> None:
    processes.environ["VICTORIA_MODEL"] = "none"
    workshop = processes.workshop
    sessions = Sessions(workshop.client, workshop.keys)
    processes.start(victim)
    processes.start(*(stage for stage in STAGES if stage != victim))
    await processes.ready(*STAGES)
    turns = [(f"run-{turn}-of-{session}", f"session {session}") for turn in range(TURNS) for session in range(SESSIONS)]
    goals = [(run, GoalSubmitted(goal="Read docs/beta.txt", session=session)) for run, session in turns]
    await admit(goals, "intake", workshop.publisher, sessions)

    assert await processes.kill_in_mid_work(victim, STAGES[victim]) > 0, "it held entries when it died"
    processes.start(victim)
    await eventually(lambda: all_ended(workshop, len(turns)), within=60)

    assert {end.status for each in (await ends(workshop)).values() for end in each} == {"completed"}
    await eventually(lambda: all_handled(workshop), within=30)
    assert await doubled_events(workshop, [*STAGES.values(), "results"][1:]) == []  # to intake goals come back
    assert await workshop.entries("dead") == []
    for number in range(SESSIONS):
        view = await sessions.show(f"session {number}")
        assert view
        assert [said.run for said in view.said] == [f"run-{turn}-of-{number}" for turn in range(TURNS)]
        assert (view.line, view.said[0].assistant) == ((), "This is beta.txt.\n")
    assert set(processes.stop_all().values()) == {0}
