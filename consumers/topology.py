"""The architecture on one screen: every stage, what comes in from outside, what goes out.

intake -> understand -> plan -> aggregate <-> step-execute
                                    |
       hypothesis-validation <- results, memory-compress        every stage asks models over infer.*
"""

from collections.abc import Iterable
from dataclasses import dataclass

from consumers import (
    aggregate,
    clock,
    delegate,
    hypothesis_validation,
    memory_compress,
    plan,
    remember,
    step_execute,
    understand,
)
from consumers.answer_cache import AnswerCache
from consumers.clock import Left
from consumers.delegate import Delegation
from consumers.experts.roster import Folders
from consumers.experts.staff import Office
from consumers.hypotheses import Hypotheses
from consumers.inference import Inference
from consumers.memory import Recall, nothing
from consumers.questions import Questions
from consumers.remember import Keeper
from consumers.sessions import Sessions
from consumers.step_execute import Executor, Workspaces, no_experts
from consumers.store import Stores
from consumers.strategies.registry import BUILT_IN as STRATEGIES
from consumers.strategies.registry import Strategies
from consumers.tools.registry import BUILT_IN as TOOLS
from consumers.tools.registry import Registry
from consumers.words.names import Names
from consumers.words.routes import Routes
from schemas.events import (
    CancelRequested,
    GoalSubmitted,
    HypothesisJudged,
    HypothesisRaised,
    MemoryKept,
    QuestionAnswered,
    QuestionAsked,
    RunFinished,
    RunProgressed,
)
from streams.observer import SILENT, Observer
from streams.topology import Topology

AFTERWARDS = (memory_compress.NAME, remember.NAME, hypothesis_validation.NAME, clock.NAME)
"""Stages that no run waits for: what they do can be done later."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What stages are given at start: folders of projects, inference consumers, questions that wait, the clock,
    sessions, hypotheses, limits, tools, experts (None: there are none), strategies, other agents, what projects
    keep, what is remembered, by whom and for whom, answers that are known, and who hears of tools at work."""

    workspaces: Workspaces
    inference: Iterable[Inference]
    questions: Questions
    left: Left
    sessions: Sessions
    delegation: Delegation
    hypotheses: Hypotheses
    max_iterations: int = 10
    question_seconds: float = 86_400
    hypothesis_seconds: float = hypothesis_validation.SECONDS
    tools: Registry = TOOLS
    experts: Folders | None = None
    strategies: Strategies = STRATEGIES
    stores: Stores | None = None
    keeper: Keeper | None = None
    recall: Recall = nothing
    answers: AnswerCache | None = None
    observer: Observer = SILENT


def topology(parts: Parts) -> Topology:
    """Victoria's stages. Raises CouldNotStart where they don't fit together."""
    experts = parts.experts.roster if parts.experts else no_experts
    agents = tuple(parts.delegation.agents.urls) if parts.experts else ()
    office = Office(experts, parts.delegation.load.loads)
    reader = understand.Reader(
        Names(parts.workspaces),
        Routes(experts) if parts.experts else None,
        parts.strategies,
        agents,
        parts.sessions,
        parts.recall,
        parts.answers,
    )
    executor = Executor(
        parts.workspaces,
        parts.max_iterations,
        parts.tools,
        experts,
        parts.question_seconds,
        parts.stores,
        parts.observer,
    )
    return Topology(
        stages=(
            understand.stage(reader),
            plan.stage(parts.tools, office, parts.strategies, agents),
            step_execute.stage(executor),
            aggregate.stage(parts.questions.listed, parts.answers),
            delegate.stage(parts.delegation),
            memory_compress.stage(parts.sessions),
            remember.stage(parts.keeper),
            hypothesis_validation.stage(parts.hypotheses, parts.left, parts.hypothesis_seconds),
            clock.stage(parts.left),
            *(stage for consumer in parts.inference for stage in consumer.stages()),
        ),
        entries={
            GoalSubmitted: "intake",
            CancelRequested: "aggregate",
            QuestionAnswered: "aggregate",
            MemoryKept: remember.NAME,
            HypothesisRaised: hypothesis_validation.NAME,
        },
        results=frozenset({RunProgressed, RunFinished, QuestionAsked, HypothesisJudged}),
    )
