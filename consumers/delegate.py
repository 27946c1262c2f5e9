"""delegate: a step is done by another agent. Where that fails, aggregate has it done here."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from anyio import CancelScope

from consumers.agents.http import TAKE_BACK, Agents, Delivery, Order
from consumers.agents.load import AgentLoad
from llm.prompts import excerpt
from schemas.errors import EffectFailed, ErrorInfo
from schemas.events import DelegationRequested, Event, StageFailed, StepFinished
from schemas.plan import Spent
from streams.stage import Context, Policy, Stage

NAME, WORK = "delegate", "work"
INSTRUCTION_CHARACTERS, CONTEXT_CHARACTERS, INPUT_CHARACTERS = 6_000, 2_000, 6_000
"""Of what an agent is told: of the instruction, of the context, and of all inputs together."""
SHARES = 4
"""Of a run's tokens, an agent gets one of this many shares."""
NOTHING_DONE = "delegation.unreachable"
Over = Callable[[Collection[str]], Awaitable[Collection[str]]]
"""Says which of these runs have ended."""
_TAG = re.compile(r"<(?=\s*/?\s*(?:context|inputs)\b)", re.IGNORECASE)


@dataclass(frozen=True)
class Delegation:
    """Has steps done by other `agents`, and keeps count of what each has to do. `over` says which runs have ended."""

    agents: Agents
    load: AgentLoad
    over: Over

    async def handle(self, event: DelegationRequested, ctx: Context[None]) -> list[Event]:
        """One step in, its end out."""

        async def work(order: Order, key: str) -> Delivery:
            async with self.load.open(order.agent, key, longest(self.agents)):
                try:
                    return await self.agents.work(order, key)
                except asyncio.CancelledError:
                    await self._left(ctx.run_id, order.agent, key)
                    raise

        try:
            share = await _share(ctx)
            order = Order(event.step.agent, goal(event), event.project, share)
            delivery = await ctx.call(WORK, work, order, returns=Delivery, effects="repeat")
            usage = delivery.usage
            await ctx.spend(WORK, usage.tokens_in + usage.tokens_out, usage.calls)
        except EffectFailed as failure:
            if failure.code == NOTHING_DONE:
                await ctx.spend(WORK, 0, 0)
            return [_failed(event, failure.info, Spent(NAME, ctx.now()))]
        return [
            StepFinished(
                step_id=event.step.id,
                status="partial" if delivery.short else "ok",
                output=delivery.output,
                source="agent",
                agent=event.step.agent,
                expert=event.step.expert,
                error=ErrorInfo("delegation.partial", delivery.short) if delivery.short else None,
                spent=Spent(NAME, ctx.now(), usage),
            )
        ]

    async def _left(self, run_id: str, agent: str, key: str) -> None:
        """Take back the work of a run that has ended. That of a worker that stops is asked for again by the next."""
        with CancelScope(shield=True):
            if run_id in await self.over([run_id]):
                await self.agents.take_back(agent, key)


async def _share(ctx: Context[None]) -> int:
    """What the run's budget lets an agent use, 0 for any number. Raises EffectFailed where nothing is left."""
    limits = ctx.limits
    if not limits or not (limits.tokens or limits.calls):
        return 0
    share = await ctx.reserve(WORK, max(1, limits.tokens // SHARES))
    if not share:
        raise EffectFailed("budget.delegation", "The run's budget leaves nothing for another agent.", "Give it more.")
    return share if limits.tokens else 0


def longest(agents: Agents) -> float:
    """Seconds in which a work has ended, or is taken back."""
    return agents.timeout + TAKE_BACK + 5


def goal(event: DelegationRequested) -> str:
    """What an agent is told: the instruction, and beside it, as data, what the step depends on."""
    share = INPUT_CHARACTERS // max(1, len(event.inputs))
    inputs = "\n\n".join(excerpt(text, share) for text in event.inputs.values())
    parts = [excerpt(event.step.instruction, INSTRUCTION_CHARACTERS)]
    parts += [f"Expected: {event.step.expected}"] if event.step.expected else []
    parts += _block("context", excerpt(event.context, CONTEXT_CHARACTERS))
    parts += _block("inputs", inputs)
    return "\n\n".join(parts)


def _block(name: str, text: str) -> list[str]:
    """Text as data that can't leave its block; none where there is nothing."""
    return [f"<{name}>\n{_TAG.sub('‹', text.strip())}\n</{name}>"] if text.strip() else []


def _failed(event: DelegationRequested, error: ErrorInfo, spent: Spent | None = None) -> StepFinished:
    step = event.step
    return StepFinished(
        step_id=step.id, status="failed", agent=step.agent, expert=step.expert, error=error, spent=spent
    )


async def _given_up(event: DelegationRequested | None, error: ErrorInfo, _ctx: Context[None]) -> list[Event]:
    return [_failed(event, error) if event else StageFailed(stage=NAME, error=error)]


def stage(delegation: Delegation) -> Stage[DelegationRequested, None]:
    """The stage as it stands in the topology."""
    return Stage(
        name=NAME,
        reads=NAME,
        accepts=(DelegationRequested,),
        emits=(StepFinished, StageFailed),
        handle=delegation.handle,
        policy=Policy(timeout=longest(delegation.agents) + 30, stops_with_run=True),
        on_dead=_given_up,
    )
