"""step-execute: one step of a plan is carried out, by a sure tool call, one answer of a model, or a ReAct loop."""

from collections.abc import Callable

from msgspec.structs import replace

from consumers.store import Stores
from consumers.tools.finish import Finish
from consumers.tools.registry import BUILT_IN, Registry, carried_out
from consumers.tools.tool import Asked, Site, ToolArguments
from consumers.tools.workspace import Workspace
from llm.prompts import excerpt, prompt
from schemas.errors import EffectFailed, ErrorInfo, OutcomeUnknown, ToolRefused
from schemas.events import Event, StepFinished, StepReady
from schemas.plan import Spent, ToolCall
from streams.stage import Context, Policy, Stage

NAME = "step-execute"
ANSWER, ACT = prompt("answer"), prompt("act")
REPEATS = 3
"""The same call this often ends a loop."""
INPUT_CHARACTERS = 6_000
"""Of all inputs of a step together, what a model sees, in equal shares; and of one at most half of it."""
OBSERVATION_CHARACTERS = 1_500
CONCURRENCY = 256
"""Steps at once: most of them wait for a model, and those that need none should not wait behind them."""
OBSERVATIONS = 4
"""How many of the last observations a model sees."""

Workspaces = Callable[[str], Workspace]
"""The confined folder of a project. Raises ToolRefused where it has none."""
BY_RULES = (
    "No model answered, and no rule answers this by itself. By rules alone Victoria lists folders and reads files: "
    'try "List the files in the folder schemas" or "Read README.md".'
)


class Executor:
    """Carries out steps in the projects' folders, with at most `max_iterations` rounds of think, act, observe."""

    def __init__(
        self, workspaces: Workspaces, max_iterations: int, tools: Registry = BUILT_IN, stores: Stores | None = None
    ) -> None:
        self._workspaces, self._max_iterations, self._tools = workspaces, max_iterations, tools
        self._stores = stores

    async def handle(self, event: StepReady, ctx: Context[None]) -> list[Event]:
        """One ready step in, its end out."""
        try:
            if event.step.call and event.step.final:
                finished = await self._tool(event, event.step.call, ctx)
            elif event.strategy == "react":
                finished = await self._react(event, ctx)
            else:
                finished = await self._answer(event, ctx)
        except (EffectFailed, OutcomeUnknown, ToolRefused) as problem:
            finished = StepFinished(step_id=event.step.id, status="failed", error=problem.info)
        return [replace(finished, spent=Spent(NAME, ctx.now(), ctx.usage()))]

    async def _tool(self, event: StepReady, call: ToolCall, ctx: Context[None]) -> StepFinished:
        output = await self._run_tool(event, "tool", self._tools.parse(call), ctx)
        return StepFinished(step_id=event.step.id, status="ok", output=output, tools=(call.tool,))

    async def _answer(self, event: StepReady, ctx: Context[None]) -> StepFinished:
        inputs = "\n\n".join(_inputs(event))
        goal, step = excerpt(event.step.instruction), event.step.id
        question = ANSWER.question(str, max_tokens=300, step=step, goal=goal, inputs=inputs)
        try:
            output = await ctx.ask("answer", question)
        except EffectFailed as problem:
            return _by_rules(event, problem.info)
        return StepFinished(step_id=event.step.id, status="ok", output=output, method="simple")

    async def _react(self, event: StepReady, ctx: Context[None]) -> StepFinished:
        given = [f"an earlier step: {text}" for text in _inputs(event)]
        observations: list[str] = []
        calls: list[ToolArguments] = []
        used: dict[str, None] = {}
        best, status = "", "partial"
        for number in range(1, self._max_iterations + 1):
            question = ACT.question(
                self._tools.action,
                max_tokens=400,
                step=event.step.id,
                goal=excerpt(event.step.instruction),
                hint=event.step.expected,
                tools=self._tools.described,
                observations="\n".join([*given, *observations[-OBSERVATIONS:]]),
            )
            try:
                action = await ctx.ask(f"act-{number}", question)
            except EffectFailed as problem:
                if not best:
                    return _by_rules(event, problem.info)
                break
            if isinstance(action, Finish):
                if action.answer.strip():
                    best, status = action.answer, "ok"
                break
            used[action.name] = None
            calls.append(action.without_thought())
            if calls.count(calls[-1]) >= REPEATS:
                break
            try:
                best = await self._run_tool(event, f"tool-{number}", action, ctx)
                observations.append(f"{action.name}: {excerpt(best, OBSERVATION_CHARACTERS)}")
            except (EffectFailed, ToolRefused) as problem:
                observations.append(f"{action.name} failed: {problem}")
        if not best:
            error = ErrorInfo("step.no_answer", "The loop ended without an answer.", "Try a larger model.")
            return StepFinished(step_id=event.step.id, status="failed", method="react", tools=tuple(used), error=error)
        return StepFinished(
            step_id=event.step.id,
            status="ok" if status == "ok" else "partial",
            output=best,
            method="react",
            tools=tuple(used),
        )

    async def _run_tool(self, event: StepReady, name: str, arguments: ToolArguments, ctx: Context[None]) -> str:
        async def act(request: ToolArguments, key: str) -> str:
            return await carried_out(request, self._site(event, key, ctx))

        try:
            self._tools.require_approval(arguments)
            return await ctx.call(name, act, arguments, returns=str, effects=arguments.policy())
        except Asked as asked:
            raise ToolRefused(
                "question.nobody",
                f"Nobody can be asked here: {asked.question}",
                "Go on without, or name the tool in the setting `approved_tools`.",
            ) from None

    def _site(self, event: StepReady, key: str, ctx: Context[None]) -> Site:
        """Where a tool acts for a step. Raises ToolRefused where its project has no folder."""
        allowed = self._tools.allowed
        store = self._stores(event.project) if self._stores else None
        return Site(self._workspaces(event.project), allowed, key, ctx.now().astimezone(allowed.zone), store)


def _inputs(event: StepReady) -> list[str]:
    """What earlier steps gave, cut so that all of it together is bounded."""
    share = INPUT_CHARACTERS // max(2, len(event.inputs))
    return [excerpt(text, share) for text in event.inputs.values()]


def _by_rules(event: StepReady, error: ErrorInfo) -> StepFinished:
    """What can be said without a model: honest, and no failure of the run."""
    return StepFinished(step_id=event.step.id, status="partial", output=BY_RULES, method="rules", error=error)


async def _given_up(event: StepReady, error: ErrorInfo, _ctx: Context[None]) -> list[Event]:
    return [StepFinished(step_id=event.step.id, status="failed", error=error)]


def stage(
    workspaces: Workspaces, max_iterations: int, tools: Registry = BUILT_IN, stores: Stores | None = None
) -> Stage[StepReady, None]:
    """The stage as it stands in the topology."""
    return Stage(
        name=NAME,
        reads=NAME,
        accepts=(StepReady,),
        emits=(StepFinished,),
        handle=Executor(workspaces, max_iterations, tools, stores).handle,
        policy=Policy(timeout=3600, concurrency=CONCURRENCY),
        on_dead=_given_up,
    )
