"""A step as a loop: a model thinks and says what to do, the tool's observation comes back, until it finishes.

What it needs to go on elsewhere, or after a person has answered, is its Progress: no worker is held meanwhile.
"""

from contextlib import suppress
from typing import Protocol

import msgspec
from msgspec.structs import replace

from consumers.experts.persona import Persona
from consumers.questions import REFUSED, UNANSWERED, UNATTENDED, agrees, asked, unattended
from consumers.runs.end import limited
from consumers.steps.answering import CONTEXT_CHARACTERS, answered, by_rules, inputs
from consumers.tools.finish import Finish
from consumers.tools.registry import Registry
from consumers.tools.seen import with_seen
from consumers.tools.tool import Asked, Missing, ToolArguments
from llm.prompts import excerpt, prompt
from schemas.advice import CUT, INVALID
from schemas.errors import EffectFailed, ErrorInfo, ToolRefused
from schemas.events import Event, StepFinished, StepHandedOff, StepReady
from schemas.inference import Question
from schemas.plan import Progress
from streams.stage import Context

ACT = prompt("act")
REPEATS = 3
"""The same call this often ends a loop."""
GONE = "The tool that was to be used is there no more."
OBSERVATION_CHARACTERS = 1_500
OBSERVATIONS = 4
"""How many of the last observations a model sees."""


class Hands(Protocol):
    """What a loop acts with."""

    @property
    def question_seconds(self) -> float:
        """For how long a question to a person is open."""
        ...

    async def use(self, event: StepReady, name: str, call: ToolArguments, ctx: Context[None]) -> str:
        """Use a tool that nobody has to agree to, or somebody did. Raises as tools do."""
        ...

    async def who(self, capability: str, but: str, name: str, ctx: Context[None]) -> tuple[str, str]:
        """A known capability near to what is said, and the best expert for it beside one; both "" if nobody has it."""
        ...


class Loop:
    """One step's loop, of at most `rounds`, by one expert with its tools."""

    def __init__(self, event: StepReady, persona: Persona, tools: Registry, rounds: int, hands: Hands) -> None:
        self._event, self._persona, self._tools, self._rounds, self._hands = event, persona, tools, rounds, hands
        self._given = [f"an earlier step: {text}" for text in inputs(event)]

    async def run(self, ctx: Context[None]) -> Event:
        """The step's end, or what it waits for, or to whom it goes."""
        progress = self._event.progress or Progress(sources=())
        if progress.pending:
            progress = await self._taken_up(progress, ctx)
        while progress.rounds < self._rounds:
            progress = replace(progress, rounds=progress.rounds + 1)
            try:
                action = await ctx.ask(f"act-{progress.rounds}", self._question(progress))
            except EffectFailed as problem:
                return await self._without_action(progress, problem, ctx)
            if isinstance(action, Finish):
                if action.answer.strip():
                    return self._end(progress, action.answer, finished=True)
                break
            said = msgspec.json.encode(action.without_thought()).decode()
            calls = (*progress.calls, said)
            progress = replace(progress, calls=calls, tools=tuple(dict.fromkeys((*progress.tools, action.name))))
            if not action.again:
                progress = replace(progress, sources=None)
            if calls.count(said) >= REPEATS:
                break
            try:
                self._tools.require_approval(action)
                progress = await self._used(progress, action, ctx)
            except Asked as signal:
                if unattended(ctx):
                    progress = _observed(progress, f"{action.name}: {UNATTENDED}")
                    continue
                return asked(self._event, action, signal, progress, self._hands.question_seconds, ctx)
            except Missing as signal:
                capability, expert = await self._hands.who(
                    signal.capability, self._persona.name, f"who-{progress.rounds}", ctx
                )
                if expert:
                    return StepHandedOff(
                        step_id=self._event.step.id,
                        capability=capability,
                        expert=expert,
                        reason=signal.reason,
                        progress=replace(progress, rounds=0, calls=()),
                    )
                progress = _observed(progress, f"nobody can {signal.capability}: do what you can yourself")
        return self._end(progress, progress.best, finished=False)

    async def _taken_up(self, progress: Progress, ctx: Context[None]) -> Progress:
        """Go on with the call that waited for a person's reply."""
        pending, reply, progress = progress.pending, self._event.reply, replace(progress, pending="")
        try:
            action = msgspec.json.decode(pending, type=self._tools.action)
        except msgspec.ValidationError:
            return _observed(progress, f"{GONE} The user's answer: {reply}" if reply else GONE)
        try:
            self._tools.require_approval(action)
        except Asked:
            if not agrees(reply):
                return _observed(progress, f"{action.name}: {REFUSED if reply else UNANSWERED}")
            return await self._used(progress, action, ctx)
        return _observed(progress, f"{action.name}: the user's answer: {reply}" if reply else UNANSWERED)

    async def _used(self, progress: Progress, action: ToolArguments, ctx: Context[None]) -> Progress:
        """After the tool's observation, or its failure as one."""
        try:
            best = await self._hands.use(self._event, f"tool-{progress.rounds}", action, ctx)
        except (EffectFailed, ToolRefused) as problem:
            return _observed(replace(progress, sources=None), f"{action.name} failed: {problem}")
        progress = replace(progress, best=best, sources=with_seen(progress.sources, action, best))
        return _observed(progress, f"{action.name}: {excerpt(best, OBSERVATION_CHARACTERS)}")

    def _question(self, progress: Progress) -> Question[ToolArguments]:
        step = self._event.step
        return ACT.question(
            self._tools.action,
            max_tokens=400,
            step=step.id,
            expert=self._persona.instructions,
            tools=self._tools.described,
            context=excerpt(self._event.context, CONTEXT_CHARACTERS),
            goal=excerpt(step.instruction),
            hint=step.expected,
            observations="\n".join([*self._given, *progress.observations]),
        )

    async def _without_action(self, progress: Progress, problem: EffectFailed, ctx: Context[None]) -> StepFinished:
        """A model that can't say what to do may still have an answer in plain words."""
        if progress.best:
            return replace(self._end(progress, progress.best, finished=False), error=problem.info)
        if limited(problem.info):
            return self._failed(progress, problem.info)
        if problem.code in (INVALID, CUT):
            with suppress(EffectFailed):
                said = await answered(self._event, self._persona, ctx)
                return replace(said, status="partial", tools=progress.tools, error=problem.info)
        return by_rules(self._event, problem)

    def _end(self, progress: Progress, output: str, *, finished: bool) -> StepFinished:
        if not output:
            return self._failed(
                progress,
                ErrorInfo("step.no_answer", "The loop ended without an answer.", "Try a larger model."),
            )
        return StepFinished(
            step_id=self._event.step.id,
            status="ok" if finished else "partial",
            output=output,
            source="model",
            tools=progress.tools,
            sources=progress.sources or None,  # what it could have looked up and did not may be otherwise the next time
        )

    def _failed(self, progress: Progress, error: ErrorInfo) -> StepFinished:
        return StepFinished(
            step_id=self._event.step.id, status="failed", source="model", tools=progress.tools, error=error
        )


def _observed(progress: Progress, text: str) -> Progress:
    return replace(progress, observations=(*progress.observations, text)[-OBSERVATIONS:])
