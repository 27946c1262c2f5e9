"""step-execute: one step of a plan is carried out, by a sure tool call, one answer of a model, or a ReAct loop."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, cast

import msgspec
from msgspec.structs import replace

from consumers.experts.persona import NOBODY, Persona, persona, tools_of
from consumers.experts.roster import Roster
from consumers.questions import REFUSED, UNANSWERED, UNATTENDED, agrees, asked, unattended
from consumers.runs.end import limited
from consumers.steps.answering import answered, by_rules, chosen, thought, voted
from consumers.steps.react import Loop
from consumers.store import Stores
from consumers.tools.registry import BUILT_IN, Registry, carried_out
from consumers.tools.seen import with_seen
from consumers.tools.tool import Asked, Missing, Site, ToolArguments
from consumers.tools.workspace import Workspace
from consumers.words.routes import Routes
from schemas.errors import EffectFailed, ErrorInfo, OutcomeUnknown, ToolRefused, VictoriaError
from schemas.events import Event, QuestionAsked, StageFailed, StepFinished, StepHandedOff, StepReady
from schemas.plan import Progress, Spent
from streams.observer import SILENT, Observer
from streams.stage import Context, Policy, Stage

NAME = "step-execute"
CONCURRENCY = 256
"""Steps at once: most of them wait for a model, and those that need none should not wait behind them."""

Workspaces = Callable[[str], Workspace]
"""The confined folder of a project. Raises ToolRefused where it has none."""
Experts = Callable[[], Roster]
"""Who is there now."""

_ASKING: dict[str, Callable[[StepReady, Persona, Context[None]], Awaitable[StepFinished]]] = {
    "answer": answered,
    "think": thought,
    "vote": voted,
    "choose": chosen,
}

ASK_USER = "ask_user"
"""The tool that only asks, which where nobody is there is none."""


class Signal(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a tool raised in place of giving an observation, as it is recorded."""

    signal: Literal["asked", "missing"]
    what: str
    reason: str = ""
    choices: tuple[str, ...] = ()
    approval: bool = False

    @classmethod
    def of(cls, raised: Asked | Missing) -> "Signal":
        """The same as data."""
        if isinstance(raised, Missing):
            return cls("missing", raised.capability, raised.reason)
        return cls("asked", raised.question, "", raised.choices, raised.approval)

    def raised(self) -> Asked | Missing:
        """The same to raise."""
        if self.signal == "missing":
            return Missing(self.what, self.reason)
        return Asked(self.what, self.choices, approval=self.approval)


SAID = cast("type[str | Signal]", str | Signal)
"""What a tool's use is recorded as."""


def no_experts() -> Roster:
    """A roster of nobody."""
    return Roster(())


@dataclass(frozen=True)
class Executor:
    """Carries out steps in the projects' folders, by `experts`, with at most `max_iterations` rounds of think, act,
    observe. A question to a person is open for `question_seconds`."""

    workspaces: Workspaces
    max_iterations: int
    tools: Registry = BUILT_IN
    experts: Experts = no_experts
    question_seconds: float = 86_400
    stores: Stores | None = None
    observer: Observer = SILENT

    async def handle(self, event: StepReady, ctx: Context[None]) -> list[Event]:
        """One ready step in; its end, or what it waits for, or to whom it goes."""
        try:
            ended = await self._carried_out(event, ctx)
        except (EffectFailed, OutcomeUnknown, ToolRefused) as problem:
            ended = StepFinished(step_id=event.step.id, status="failed", expert=event.step.expert, error=problem.info)
        spent = Spent(NAME, ctx.now(), ctx.usage())
        match ended:
            case StepFinished() | QuestionAsked() | StepHandedOff():
                return [replace(ended, spent=spent)]
            case _:
                raise AssertionError(f"a step can't end as {ended}")

    async def use(self, event: StepReady, name: str, call: ToolArguments, ctx: Context[None]) -> str:
        """A tool's observation, recorded. See react.Hands."""

        async def act(request: ToolArguments, key: str) -> str | Signal:
            workspace, allowed = self.workspaces(event.project), self.tools.allowed
            store = self.stores(event.project) if self.stores else None
            site = Site(workspace, allowed, key, ctx.now().astimezone(allowed.zone), store)
            with self.observer.using(request.name, key, lambda: msgspec.json.encode(request).decode()) as used:
                try:
                    said = await carried_out(request, site)
                except (Asked, Missing) as raised:
                    used.ended("")
                    return Signal.of(raised)
                except VictoriaError as problem:
                    used.ended("", problem.code)
                    raise
                used.ended(said)
                return said

        said = await ctx.call(name, act, call, returns=SAID, effects=call.policy())
        if isinstance(said, Signal):
            raise said.raised()
        return said

    async def who(self, capability: str, but: str, name: str, ctx: Context[None]) -> tuple[str, str]:
        """A capability that is declared, near to what is said, and who has it. See react.Hands."""

        async def look(said: str, _key: str) -> tuple[str, str]:
            return whoever(self.experts(), said, but)

        return await ctx.call(name, look, capability, returns=tuple[str, str])

    async def _carried_out(self, event: StepReady, ctx: Context[None]) -> Event:
        step = event.step
        if step.how == "tool":
            return await self._tool(event, ctx)
        who = await self._persona(step.expert, ctx)
        if step.how == "react":
            most = min(self.max_iterations, who.max_iterations or self.max_iterations)
            tools = tools_of(who, self.tools)
            if unattended(ctx):
                tools = tools.chosen({*tools.names} - {ASK_USER})
            ended = await Loop(event, who, tools, most, self).run(ctx)
        else:
            try:
                ended = await _ASKING[step.how](event, who, ctx)
            except EffectFailed as problem:
                if limited(problem.info):
                    raise
                ended = by_rules(event, problem)
        return replace(ended, expert=who.name) if isinstance(ended, StepFinished) else ended

    async def _persona(self, name: str, ctx: Context[None]) -> Persona:
        async def look(said: str, _key: str) -> Persona:
            return persona(self.experts(), said)

        return await ctx.call("expert", look, name, returns=Persona) if name else NOBODY

    async def _tool(self, event: StepReady, ctx: Context[None]) -> Event:
        """A call that rules are sure of; its result is the step's output."""
        step = event.step
        if step.call is None:
            raise ToolRefused("step.no_call", f"Step {step.id!r} has no tool call.", "Give it one, or another `how`.")
        call, sources = self.tools.parse(step.call), None
        try:
            if not (event.progress and agrees(event.reply)):
                self.tools.require_approval(call)
            output = await self.use(event, "tool", call, ctx)
            sources = with_seen((), call, output)
        except Asked as signal:
            if event.progress and not signal.approval:
                output = event.reply or UNANSWERED
            elif event.progress:
                error = ErrorInfo("tool.not_approved", REFUSED if event.reply else UNANSWERED)
                return StepFinished(step_id=step.id, status="failed", tools=(call.name,), error=error)
            elif not unattended(ctx):
                return asked(event, call, signal, Progress(), self.question_seconds, ctx)
            elif signal.approval:
                raise ToolRefused(
                    "tool.not_approved", UNATTENDED, "Say in `approved_tools` what needs nobody."
                ) from None
            else:
                output = UNATTENDED
        return StepFinished(
            step_id=step.id,
            status="ok",
            output=output,
            source="tool",
            expert=step.expert,
            tools=(call.name,),
            sources=sources,
        )


def whoever(roster: Roster, said: str, but: str) -> tuple[str, str]:
    """The declared capability that is meant, and the best expert for it beside one; else whom the words speak for."""
    able = {name: [e.name for e in experts if e.name != but] for name, experts in roster.capabilities.items()}
    word = "_".join(said.casefold().split())
    for name in (word, *get_close_matches(word, able, 1, 0.75)):
        if able.get(name):
            return name, able[name][0]
    routed = Routes(lambda: roster).route(said)
    if routed.confidence > 0.3 and routed.expert != but and routed.expert in roster.experts:
        return said, routed.expert
    return "", ""


async def _given_up(event: StepReady | None, error: ErrorInfo, _ctx: Context[None]) -> list[Event]:
    if event is None:
        return [StageFailed(stage=NAME, error=error)]
    return [StepFinished(step_id=event.step.id, status="failed", error=error)]


def stage(executor: Executor) -> Stage[StepReady, None]:
    """The stage as it stands in the topology."""
    return Stage(
        name=NAME,
        reads=NAME,
        accepts=(StepReady,),
        emits=(StepFinished, QuestionAsked, StepHandedOff, StageFailed),
        handle=executor.handle,
        policy=Policy(timeout=3600, concurrency=CONCURRENCY, stops_with_run=True),
        on_dead=_given_up,
    )
