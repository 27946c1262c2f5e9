"""The worker for tasks, put together as these settings say."""

from collections.abc import Sequence
from dataclasses import dataclass

from consumers.postgres.database import Database
from consumers.postgres.lease import Lease
from consumers.step_execute import no_experts
from consumers.tasks.cycle import RESOURCE, Cycle, Staffing
from consumers.tasks.table import Tasks
from consumers.tasks.worker import Publishing, TaskWorker, worker_name
from deploy.agents import delegation
from deploy.people import experts, strategies
from deploy.tools import registry
from deploy.victoria import Victoria
from schemas.errors import Published
from schemas.events import GoalSubmitted


@dataclass(frozen=True)
class TaskParts:
    """What looks after tasks, and what has them carried out."""

    tasks: Tasks
    cycle: Cycle
    publishing: Publishing
    worker: TaskWorker


def task_parts(victoria: Victoria, database: Database) -> TaskParts:
    """The parts of one process. Raises CouldNotStart where tools or strategies are broken."""
    s = victoria.settings

    async def submit(goals: Sequence[tuple[str, GoalSubmitted]]) -> list[Published]:
        # Nobody is there to be asked, and what people ask comes first.
        return await victoria.submit(goals, victoria.limits(seconds=s.task_seconds, unattended=True, background=True))

    folders = experts(s, registry(s), strategies(s))
    staffing = Staffing(
        folders.roster if s.use_victoria_enhanced else no_experts,
        delegation(s, victoria.client, victoria.keys).load.loads,
    )
    name = worker_name()
    lease = Lease(database, RESOURCE, name, s.lease)
    tasks = Tasks(database)
    cycle = Cycle(
        database, victoria.client, victoria.keys, lease, staffing, victoria.cancel, s.task_seconds, s.lease, s.keep
    )
    publishing = Publishing(tasks, name, staffing, submit, victoria.cancel, s.tasks_at_once)
    return TaskParts(tasks, cycle, publishing, TaskWorker(tasks, cycle, publishing, victoria.client, victoria.keys))
