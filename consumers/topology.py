"""The architecture on one screen: every stage, what comes in from outside, what goes out.

intake -> understand -> plan -> aggregate <-> step-execute
                                    |
                         results, memory-compress        every stage asks models over infer.*
"""

from collections.abc import Iterable
from dataclasses import dataclass

from consumers import aggregate, memory_compress, plan, step_execute, understand
from consumers.inference import Inference
from consumers.sessions import Sessions
from consumers.step_execute import Workspaces
from consumers.tools.registry import BUILT_IN, Registry
from schemas.events import CancelRequested, GoalSubmitted, RunFinished, RunProgressed
from streams.topology import Topology

AFTERWARDS = (memory_compress.NAME,)
"""Stages that no run waits for: what they do can be done later."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What stages are given at start: folders of projects, inference consumers, sessions, limits, tools."""

    workspaces: Workspaces
    inference: Iterable[Inference]
    sessions: Sessions
    max_iterations: int = 10
    tools: Registry = BUILT_IN


def topology(parts: Parts) -> Topology:
    """Victoria's stages. Raises CouldNotStart where they don't fit together."""
    return Topology(
        stages=(
            understand.stage(parts.sessions),
            plan.stage(parts.tools),
            step_execute.stage(parts.workspaces, parts.max_iterations, parts.tools),
            aggregate.stage(),
            memory_compress.stage(parts.sessions),
            *(stage for consumer in parts.inference for stage in consumer.stages()),
        ),
        entries={GoalSubmitted: "intake", CancelRequested: "aggregate"},
        results=frozenset({RunProgressed, RunFinished}),
    )
