"""hypothesis-validation: what may be so is found out by runs in the background, and judged by what they give.

A hypothesis is confirmed, refuted, or stays open. Confirmed ones become knowledge, others never do. It ends in any
case: when all its runs have, or at its deadline.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated

import msgspec
from msgspec.structs import replace as with_fields

from consumers.clock import Left
from consumers.hypotheses import (
    GOALS,
    NAME,
    Begun,
    Hypotheses,
    HypothesisState,
    Validations,
    validation_ids,
)
from llm.prompts import excerpt, prompt
from schemas.errors import EffectFailed, ErrorInfo
from schemas.events import (
    Event,
    GoalSubmitted,
    HypothesisJudged,
    HypothesisRaised,
    MemoryKept,
    ValidationDue,
    ValidationFinished,
)
from schemas.plan import Limits, Moment, Verdict, least_trusted
from streams.append import first_id
from streams.stage import Context, Snooze, Stage

VALIDATE, JUDGE = prompt("validate"), prompt("judge")
SECONDS = 3_600.0
"""In which a hypothesis is judged, whatever has been found out by then."""
SURE = 0.6
"""The confidence from which on a verdict counts."""
PATIENCE = 60.0
"""Seconds for which this waits for a model to be there; then it goes on without."""
FINDINGS_CHARACTERS, EVIDENCE_CHARACTERS = 4_500, 1_500
_SPACES = re.compile(r"\s+")
_ASKED = {
    "ru": "Выясни, верно ли это, и приведи, что говорит за и что против: {}",
    "zh": "查明这是否属实，并列出支持和反对的证据：{}",
    "en": "Find out whether this is true, and quote what speaks for it and what speaks against it: {}",
}

HypothesisEvent = HypothesisRaised | ValidationFinished | ValidationDue


class Checks(msgspec.Struct, frozen=True):
    """How a model would check a hypothesis."""

    goals: Annotated[
        tuple[Annotated[str, msgspec.Meta(min_length=5, max_length=300)], ...],
        msgspec.Meta(min_length=1, max_length=GOALS - 1),
    ]


class Judgement(msgspec.Struct, frozen=True):
    """A model's verdict."""

    verdict: Verdict
    confidence: Annotated[float, msgspec.Meta(ge=0, le=1)]
    quotes: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=300)], ...], msgspec.Meta(max_length=5)]
    why: Annotated[str, msgspec.Meta(max_length=300)]


@dataclass(frozen=True)
class Validator:
    """Has hypotheses checked within so many `seconds`, and judges them."""

    hypotheses: Hypotheses
    left: Left
    seconds: float = SECONDS

    async def handle(self, event: HypothesisEvent, ctx: Context[HypothesisState]) -> Sequence[Event]:
        """One event of a hypothesis in; what is to be waited for, or its end out."""
        match event:
            case HypothesisRaised():
                return await self._raised(event, ctx)
            case ValidationFinished():
                return await self._finished(event, ctx)
            case ValidationDue():
                return await self._due(event, ctx)

    async def given_up(
        self, event: HypothesisEvent | None, error: ErrorInfo, ctx: Context[HypothesisState]
    ) -> list[Event]:
        """A hypothesis that could not be dealt with stays open."""
        if isinstance(event, HypothesisRaised) and _is_own(ctx):
            return [_judged(event, "open", why=error.message)]
        return []

    async def _raised(self, event: HypothesisRaised, ctx: Context[HypothesisState]) -> Sequence[Event]:
        if ctx.limits and ctx.limits.validates:
            return []  # what checks hypotheses raises none: else there might be no end
        trust = ctx.trust
        if not _is_own(ctx):
            begun = Begun(ctx.new_id("hypothesis"), event, trust)
            await ctx.call("begin", self.hypotheses.begin, begun, type(None), effects="repeat")
            return []
        state = ctx.state
        if state.raised:
            return []
        goals = dict(zip(validation_ids(ctx.run_id), await self._goals(event, ctx), strict=False))
        trust = ctx.trust
        at = ctx.now()
        due = at + timedelta(seconds=self.seconds)
        wanted = Validations(ctx.run_id, event.project, goals, due, at, trust, self._limits(ctx, due))
        await ctx.call("submit", self.hypotheses.submit, wanted, type(None), effects="repeat")
        ctx.trust = trust  # that these are under way adds nothing
        state = with_fields(state, raised=event, at=at, due=due, goals=goals, trust=least_trusted(trust, state.trust))
        return [ValidationDue(at=due), *await self._moved(state, ctx)]

    async def _finished(self, event: ValidationFinished, ctx: Context[HypothesisState]) -> Sequence[Event]:
        if event.hypothesis != ctx.run_id:
            await ctx.call("tell", self.hypotheses.tell, (event, ctx.trust), type(None), effects="repeat")
            return []
        state = ctx.state
        known = event.validation not in validation_ids(ctx.run_id) or event.validation in state.results
        if state.judged or known:
            return []
        results = {**state.results, event.validation: event}
        return await self._moved(with_fields(state, results=results, trust=least_trusted(state.trust, ctx.trust)), ctx)

    async def _due(self, event: ValidationDue, ctx: Context[HypothesisState]) -> Sequence[Event]:
        async def look(at: Moment, _key: str) -> bool:
            seconds = await self.left(ctx.run_id, at)
            if seconds is not None and seconds > 0:
                raise Snooze(seconds)
            return seconds is not None

        if ctx.state.judged or not await ctx.call("look", look, event.at, bool):
            return []
        return await self._moved(ctx.state, ctx, over=True)

    async def _moved(
        self, state: HypothesisState, ctx: Context[HypothesisState], *, over: bool = False
    ) -> Sequence[Event]:
        """Keep the state; once all is there that is to come, the end."""
        events: list[Event] = []
        if state.raised and (over or len(state.results) >= len(state.goals)):
            ctx.trust = state.trust
            judged = await self._judge(state.raised, state, ctx)
            state = with_fields(state, judged=judged, trust=ctx.trust)
            events.append(judged)
            if judged.verdict == "confirmed":
                events.append(_knowledge(judged, ctx))
        ctx.trust = state.trust
        ctx.state = state
        return events

    async def _goals(self, event: HypothesisRaised, ctx: Context[HypothesisState]) -> list[str]:
        """What is to be found out: the hypothesis as a question, and how a model would check it."""
        question = VALIDATE.question(
            Checks, max_tokens=250, priority="background", statement=event.statement, evidence=_evidence(event)
        )
        try:
            checks = (await ctx.ask("validate", replace(question, patience=PATIENCE))).goals
        except EffectFailed:
            checks = ()
        plain = _ASKED[_language(event.statement)].format(event.statement.strip())
        return list(dict.fromkeys((plain, *(each.strip() for each in checks if each.strip()))))[:GOALS]

    def _limits(self, ctx: Context[HypothesisState], due: Moment) -> Limits:
        """What the runs may cost that find out about it: each as much as the hypothesis itself."""
        own = ctx.limits or Limits()
        ends = min(due, own.ends) if own.ends else due
        return with_fields(own, ends=ends, unattended=True, background=True, validates=ctx.run_id)

    async def _judge(
        self, raised: HypothesisRaised, state: HypothesisState, ctx: Context[HypothesisState]
    ) -> HypothesisJudged:
        """A model's verdict, as far as it can show where it comes from; else it stays open."""
        # Where neither a model nor a tool had a part in an answer, it only says that there is none.
        results = [each for each in state.results.values() if each.status == "completed" and each.source != "rules"]
        found = [each for each in results if each.output.strip()]
        if not found:
            errors = dict.fromkeys(each.error.message for each in state.results.values() if each.error)
            return _judged(raised, "open", why=f"Nothing was found out about it. {' '.join(errors)}".strip())
        each = FINDINGS_CHARACTERS // len(found)
        findings = "\n\n".join(excerpt(result.output, each) for result in found)
        question = JUDGE.question(
            Judgement,
            max_tokens=400,
            priority="background",
            statement=raised.statement,
            evidence=_evidence(raised),
            findings=findings,
        )
        try:
            # By how much was found: should more come while it is asked, that is another question.
            said = await ctx.ask(f"judge-{len(state.results)}", replace(question, patience=PATIENCE))
        except EffectFailed as problem:
            return _judged(raised, "open", why=f"No model judged what was found. {problem.message}")
        there = _plain(findings)
        quotes = tuple(quote for quote in said.quotes if (plain := _plain(quote)) and plain in there)
        if said.verdict == "open" or (quotes and said.confidence >= SURE):
            return _judged(raised, said.verdict, said.confidence, quotes, said.why)
        why = "The model was not sure enough." if quotes else "What the model quoted for it was not found."
        return _judged(raised, "open", said.confidence if quotes else 0.0, quotes, f"{why} {said.why}".strip())


def _is_own(ctx: Context[HypothesisState]) -> bool:
    """Whether the run began with this very hypothesis."""
    return ctx.event_id == first_id(ctx.run_id, HypothesisRaised)


def _judged(
    raised: HypothesisRaised, verdict: Verdict, confidence: float = 0.0, evidence: tuple[str, ...] = (), why: str = ""
) -> HypothesisJudged:
    return HypothesisJudged(
        statement=raised.statement,
        verdict=verdict,
        confidence=confidence,
        evidence=evidence,
        why=why,
        project=raised.project,
        session=raised.session,
        source=raised.source,
    )


def _knowledge(judged: HypothesisJudged, ctx: Context[HypothesisState]) -> MemoryKept:
    return MemoryKept(
        project=judged.project,
        session=judged.session,
        tag="insight",
        text=judged.statement,
        trust=ctx.trust,
        source=f"hypothesis:{ctx.run_id}",
    )


def _evidence(raised: HypothesisRaised) -> str:
    return excerpt("\n".join(raised.evidence), EVIDENCE_CHARACTERS)


def _plain(text: str) -> str:
    return _SPACES.sub(" ", text).strip(" .\"'").casefold()


def _language(text: str) -> str:
    if re.search("[\u3400-\u9fff]", text):
        return "zh"
    return "ru" if re.search("[\u0400-\u04ff]", text) else "en"


def stage(hypotheses: Hypotheses, left: Left, seconds: float = SECONDS) -> Stage[HypothesisEvent, HypothesisState]:
    """The stage as it stands in the topology. Its goals are said in runs of their own."""
    validator = Validator(hypotheses, left, seconds)
    return Stage(
        name=NAME,
        reads=NAME,
        accepts=(HypothesisRaised, ValidationFinished, ValidationDue),
        emits=(GoalSubmitted, ValidationDue, HypothesisJudged, MemoryKept),
        handle=validator.handle,
        state=HypothesisState,
        on_dead=validator.given_up,
    )
