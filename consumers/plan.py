"""plan: an understood goal becomes a checked plan of few steps, and what is left of one is planned again.

Works on the restated goal only. What rules are sure of becomes steps without a model; the rest a strategy shapes.
"""

from collections.abc import Collection
from difflib import get_close_matches

from msgspec.structs import replace

from consumers.agents.choice import delegated
from consumers.experts.roster import Roster
from consumers.experts.staff import Office, Staff
from consumers.failure import stage_failed
from consumers.runs.check import checked, kept, renumbered
from consumers.runs.state import UNLOCKS
from consumers.strategies.fitting import one_step
from consumers.strategies.registry import BUILT_IN as STRATEGIES
from consumers.strategies.registry import PARALLEL, Strategies
from consumers.strategies.strategy import Brief
from consumers.tools.registry import BUILT_IN, Registry
from consumers.words.routing import needs
from schemas.errors import EffectFailed
from schemas.events import Event, GoalUnderstood, PlanProposed, ReplanRequested, RunProgressed, StageFailed
from schemas.plan import Plan, Spent, Step, ToolCall
from streams.stage import Context, Stage

NAME = "plan"


NOBODY = Office(lambda: Roster(()))
"""Where there are no experts."""


class Planner:
    """Plans by these strategies, with these tools, for whoever the office finds. `agents` are the names of the other
    agents that can be reached: a step that one of them is best for goes there."""

    def __init__(self, tools: Registry, office: Office, strategies: Strategies, agents: Collection[str]) -> None:
        self._tools, self._office, self._strategies, self._agents = tools, office, strategies, agents

    async def handle(self, event: GoalUnderstood | ReplanRequested, ctx: Context[None]) -> list[Event]:
        """One understood goal in, its plan out; or what is left of a plan, and a new one for that."""
        again = isinstance(event, ReplanRequested)
        plan = await (self._left(event, ctx) if again else self._first(event, ctx))
        proposed = PlanProposed(
            restated=event.restated,
            plan=plan,
            project=event.project,
            session=event.session,
            context=event.context,
            expert=event.expert,
            revision=event.revision if again else 0,
            answer_key="" if again else event.answer_key,
            spent=(*(() if again else event.spent), Spent(NAME, ctx.now(), ctx.usage())),
        )
        titles = "; ".join(step.title for step in plan.steps)
        return [proposed, RunProgressed(kind="plan", stage=NAME, text=titles or "; ".join(plan.notes), plan=plan)]

    async def _first(self, event: GoalUnderstood, ctx: Context[None]) -> Plan:
        if event.calls:
            return of_calls(event.calls, event.question, alone=event.question_alone, expert=event.expert)
        strategy = self._strategies.choose(event.kind, event.category, event.strategy)
        delegates = bool(self._agents) and not event.delegated_by
        staff = await self._staff(event.restated, ctx) if delegates or not strategy.direct else None
        notes = self._unknown(event.strategy)
        if staff and event.expert and not staff.named(event.expert):
            return Plan(strategy.name, notes=(*notes, staff.unknown(event.expert)))
        brief = Brief(event.restated, event.kind, event.category, event.expert, event.first_step, context=event.context)
        brief = self._with(brief, staff)
        try:
            plan = await strategy.shaped(brief, ctx.ask)
        except EffectFailed as problem:
            plan = one_step(strategy.name, brief, f"One step for the whole: {problem}")
        plan = renumbered(checked(plan, brief.colleagues))
        plan = delegated(plan, brief.colleagues, self._agents) if delegates else plan
        return replace(plan, notes=(*notes, *plan.notes))

    async def _left(self, event: ReplanRequested, ctx: Context[None]) -> Plan:
        strategy = self._strategies.choose("complex", "multi_step", event.strategy or PARALLEL)
        brief = Brief(event.restated, "complex", "multi_step", event.expert, context=event.context)
        brief = replace(brief, done=event.done, left=event.left, why=event.why)
        brief = self._with(brief, await self._staff(event.restated, ctx))
        done = [each.step.id for each in event.done]
        try:
            plan = await strategy.shaped(brief, ctx.ask)
        except EffectFailed as problem:
            failed = [each.step.id for each in event.done if each.status not in UNLOCKS]
            note = f"What was left stays as it was: {problem}"
            return Plan(strategy.name, kept(event.left, failed), aggregate=True, revisable=True, notes=(note,))
        numbers = [int(id_) for id_ in (*done, *(step.id for step in event.left)) if id_.isdecimal()]
        return renumbered(checked(plan, brief.colleagues, done), max(numbers, default=0))

    async def _staff(self, goal: str, ctx: Context[None]) -> Staff:
        trust = ctx.trust
        staff = await ctx.call("colleagues", self._office.look, goal, Staff)
        ctx.trust = trust  # experts' files are the operator's own
        return staff

    def _with(self, brief: Brief, staff: Staff | None) -> Brief:
        brief = replace(brief, needs=needs(brief.goal), tools=self._tools.described)
        return replace(brief, colleagues=staff.colleagues, claimed=staff.claimed) if staff else brief

    def _unknown(self, wanted: str) -> tuple[str, ...]:
        """What to say of a strategy that is wanted and that there is not."""
        known = self._strategies.by_name
        if not wanted or wanted in known:
            return ()
        near = get_close_matches(wanted, known, 1)
        hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(known)}."
        return (f"There is no strategy {wanted[:80]!r}. {hint}",)


def of_calls(calls: tuple[ToolCall, ...], question: str, *, alone: bool = False, expert: str = "") -> Plan:
    """A plan of sure tool calls, side by side, and of the question that is left, if any: about their results, or alone.
    `expert` is whose calls they are.

    A question that stands alone gets no results: a small model would talk about them instead of answering.
    """
    steps = [
        Step(
            str(number),
            " ".join((call.tool, *map(str, call.arguments.values())))[:120],
            call.tool,
            how="tool",
            expert=expert,
            call=call,
        )
        for number, call in enumerate(calls, 1)
    ]
    if not question:
        return Plan("rules", tuple(steps))
    needs = () if alone else tuple(step.id for step in steps)
    last = Step(str(len(steps) + 1), question[:120], question, how="answer", depends_on=needs)
    return Plan("simple", (*steps, last))


def stage(
    tools: Registry = BUILT_IN,
    office: Office = NOBODY,
    strategies: Strategies = STRATEGIES,
    agents: Collection[str] = (),
) -> Stage[GoalUnderstood | ReplanRequested, None]:
    """The stage as it stands in the topology."""
    return Stage(
        name=NAME,
        reads="plan",
        accepts=(GoalUnderstood, ReplanRequested),
        emits=(PlanProposed, RunProgressed, StageFailed),
        handle=Planner(tools, office, strategies, agents).handle,
        on_dead=stage_failed(NAME),
    )
