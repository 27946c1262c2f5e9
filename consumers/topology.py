"""The architecture on one screen: every stage, what comes in from outside, what goes out.

intake -> understand -> plan -> aggregate <-> step-execute
                                    |
                                 results        every stage asks models over infer.*
"""

from dataclasses import dataclass

from consumers import aggregate, inference, plan, step_execute, understand
from consumers.inference import Engines
from consumers.step_execute import Workspaces
from schemas.events import GoalSubmitted, RunFinished, RunProgressed
from streams.journal import Journal
from streams.topology import Topology


@dataclass(frozen=True, slots=True)
class Parts:
    """What stages are given at start: folders of projects, limits, engines."""

    workspaces: Workspaces
    journal: Journal
    local_engine: Engines
    local_slots: int = 4
    max_iterations: int = 10


def topology(parts: Parts) -> Topology:
    """Victoria's stages. Raises CouldNotStart where they don't fit together."""
    return Topology(
        stages=(
            understand.stage(),
            plan.stage(),
            step_execute.stage(parts.workspaces, parts.max_iterations),
            aggregate.stage(),
            inference.stage("local", parts.local_slots, parts.local_engine, parts.journal),
        ),
        entries={GoalSubmitted: "intake"},
        results=frozenset({RunProgressed, RunFinished}),
    )
