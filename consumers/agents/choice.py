"""Which agent a step goes to: who is best at what its words need, and not busy."""

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from consumers.strategies.strategy import Colleague
from consumers.words.routing import needs
from schemas.plan import Plan, Step

AGENT = "agent"
"""The rank of those who can be delegated to."""


def best_agent(needed: Sequence[str], colleagues: Sequence[Colleague]) -> str:
    """The agent with the highest score for all that is needed, each capability's effectiveness less its load; "" if
    nothing is needed, or no agent can any of it."""

    def score(agent: Colleague) -> float:
        return sum(agent.capabilities.get(need, 0) for need in needed) * (1 - min(1, max(0, agent.load)))

    best = max((each for each in colleagues if each.rank == AGENT), key=score, default=None)
    return best.name if best and score(best) > 0 else ""


def delegated(plan: Plan, colleagues: Sequence[Colleague], reachable: Collection[str]) -> Plan:
    """The plan with each step at the agent that is best for it, if that is one of the `reachable` ones.

    What a specialist was chosen for stays here, and so do sure tool calls and steps that only feed others.
    """
    ranks = {each.name: each.rank for each in colleagues}

    def at(step: Step) -> Step:
        if step.inner or step.how not in ("answer", "react") or ranks.get(step.expert, AGENT) != AGENT:
            return step
        agent = best_agent(needs(step.instruction), colleagues)
        return replace(step, agent=agent) if agent in reachable else step

    return replace(plan, steps=tuple(map(at, plan.steps)))
