"""Who fits a goal, by the experts' own declarations and its words, and the plans for those whom nobody fits."""

from typing import NamedTuple

from consumers.strategies.strategy import EXPERT, Brief, Colleague
from schemas.plan import How, Plan, Step

_TOOLED = frozenset({"execution", "file_operations", "research", "system_admin"})
"""What is done with tools, of what a goal can need."""

ASSISTANT = "assistant"
"""The rank of those who keep something, and have no opinion."""


class Department(NamedTuple):
    """A department with a head, and its specialists, who fits best first."""

    head: Colleague
    specialists: list[Colleague]


def ranked(brief: Brief) -> list[Colleague]:
    """All colleagues, who fits best first: whom the goal is for, whose words it has, who can best what it needs."""
    claimed = {name: place for place, name in enumerate(brief.claimed)}
    needs = brief.needs or ("reasoning",)

    def key(colleague: Colleague) -> tuple[bool, int, float, str]:
        name, busy = colleague.name, min(1, max(0, colleague.load))
        able = sum(colleague.capabilities.get(need, 0) for need in needs) * (1 - busy)
        return name != brief.expert, claimed.get(name, len(claimed)), -able, name

    return sorted(brief.colleagues, key=key)


def fitting(brief: Brief) -> list[Colleague]:
    """Those for whom something speaks, who fits best first."""
    known, needs = {brief.expert, *brief.claimed}, set(brief.needs)
    return [each for each in ranked(brief) if each.name in known or needs & each.capabilities.keys()]


def advisers(brief: Brief) -> list[Colleague]:
    """Those who can say something to any goal, who fits best first."""
    return [each for each in ranked(brief) if each.rank != ASSISTANT]


def departments(brief: Brief) -> list[Department]:
    """The departments that have a head and somebody who fits, the best one's first."""
    ordered = ranked(brief)
    heads = {each.department: each for each in reversed(ordered) if each.rank == "head"}
    return [
        Department(heads[name], [each for each in ordered if each.department == name and each.rank == "specialist"])
        for name in dict.fromkeys(each.department for each in fitting(brief))
        if name in heads
    ]


def manner(colleague: Colleague) -> How:
    """How this colleague carries out a part of the work: with tools, unless its own way is to answer."""
    return "answer" if colleague.strategy in ("simple", "extended_thinking") else "react"


def manner_for(colleague: Colleague, brief: Brief) -> How:
    """The same where it is the goal itself that is worked at: without tools where its words ask for none."""
    hands_on = brief.category == "investigate" or not _TOOLED.isdisjoint(brief.needs)
    return manner(colleague) if hands_on else "answer"


def one_step(strategy: str, brief: Brief, *notes: str) -> Plan:
    """One step for all of it, by who fits best."""
    expert = next((each.name for each in fitting(brief)), brief.expert or EXPERT)
    step = Step("1", "find out", brief.goal, expert=expert, expected=brief.first_step)
    return Plan(strategy, (step,), notes=notes)


def one_answer(strategy: str, brief: Brief, *notes: str) -> Plan:
    """One answer, by who answers for what nobody else can."""
    return Plan(strategy, (Step("1", "answer", brief.goal, how="answer", expert=EXPERT),), notes=notes)


NOBODY = "Nobody's abilities match."
