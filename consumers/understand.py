"""understand: a raw goal becomes one clear sentence, a category, and who it is for.

Rules and the router look first; both only read, and take less than a millisecond. Where they are sure, no model is
asked: a goal that is surely an expert's goes straight to that expert's step, and tool calls that are sure to the plan.
Where they are not, one quick call restates the goal, and its answer counts only if it kept the goal's meaning. Without
a model the rules' own reading goes on. Before any model is asked it is looked whether the answer is known already.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

import msgspec

from consumers.answer_cache import NOTHING, Answer, AnswerCache, Found, Wanted
from consumers.failure import stage_failed
from consumers.intake import HISTORY_PAIRS, goal_submitted
from consumers.memory import Memory, Recall, nothing, trust_of
from consumers.sessions import Sessions, Turn
from consumers.strategies.registry import BUILT_IN, Strategies
from consumers.strategies.strategy import Brief
from consumers.tools.dates import stretches
from consumers.words.findings import Recognised, Routed
from consumers.words.names import Names
from consumers.words.preparation import context, normalised
from consumers.words.routes import Routes
from llm.prompts import excerpt, prompt
from schemas.errors import EffectFailed, InvalidInput
from schemas.events import (
    AnswerFound,
    DeadlineSet,
    Event,
    Exchange,
    GoalSubmitted,
    GoalUnderstood,
    PlanProposed,
    RunProgressed,
    StageFailed,
)
from schemas.inference import Question
from schemas.plan import Category, Plan, Spent, least_trusted
from streams.stage import Context, Stage

R = TypeVar("R")

NAME = "understand"
SURE = 0.8
"""From this confidence on rules and router decide alone."""
CLEAR = 0.6
"""From this confidence on the rules' category counts, not the model's; above it, the expert whom the router finds."""
HISTORY_CHARACTERS = 1_000
DATED = 2_000
"""Characters of a goal in which a day or time is looked for."""
PATIENCE = 30.0
"""Seconds for which a goal waits for a model to be there. Then rules alone decide, and who needs a model waits on."""

PROMPT = prompt("understand")


class Understanding(msgspec.Struct, frozen=True):
    """What the model makes of a goal."""

    restated: Annotated[str, msgspec.Meta(min_length=1, max_length=400)]
    category: Category
    first_step: Annotated[str, msgspec.Meta(max_length=200)]


class Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is looked at: a goal, the turn before it, and which expert had that."""

    goal: str
    project: str
    before: tuple[Exchange, ...] = ()
    sticky: str = ""
    expert: str = ""


class Looked(msgspec.Struct, frozen=True, omit_defaults=True):
    """What rules and router see in a goal, at the moment they look. `sure` is how sure it is that it goes there: of an
    `assistant`, who does everything in its own way, whatever kind of goal it is. `own` is its expert's strategy, ""
    for an agent's; `known` says that there is the expert who is wanted."""

    rules: Recognised
    routed: Routed | None = None
    sure: float = 0.0
    assistant: bool = False
    own: str = ""
    known: bool = True


@dataclass(frozen=True)
class Reader:
    """Understands goals: by `routes`, if there are experts, and the `names` that are there in the projects' folders.

    What may be for one of the `agents` is left to plan.
    """

    names: Names
    routes: Routes | None = None
    strategies: Strategies = BUILT_IN
    agents: Collection[str] = ()
    sessions: Sessions | None = None
    recall: Recall = nothing
    answers: AnswerCache | None = None

    async def handle(self, event: GoalSubmitted, ctx: Context[None]) -> list[Event]:
        """One goal in, its understanding out, or its plan at once."""
        # also of events that passed no door
        goal_submitted(event.goal, event.project, event.session, event.history, event.setting)
        if event.strategy and event.strategy not in self.strategies.by_name:
            raise InvalidInput(
                "strategy.unknown",
                f"There is no strategy {event.strategy[:80]!r}.",
                f"The strategies are {', '.join(self.strategies.by_name)}.",
            )
        turn = await self._turn(event, ctx)
        if turn.over:
            return []  # it was cancelled while it waited
        ends = ctx.limits.ends if ctx.limits else None
        said = await self._understood(event, turn, ctx)
        ended = any(isinstance(each, AnswerFound) for each in said)
        return [*said, *([DeadlineSet(at=ends)] if ends and not ended else [])]

    async def _understood(self, event: GoalSubmitted, turn: Turn, ctx: Context[None]) -> list[Event]:
        event = msgspec.structs.replace(event, history=turn.history)
        asked = Asked(event.goal, event.project, event.history[-1:], turn.expert, event.expert)
        trust = ctx.trust
        looked = await ctx.call("look", self._look, asked, returns=Looked)
        ctx.trust = trust  # rules, experts and the names of files only sort the goal
        if not looked.known:
            raise InvalidInput(
                "expert.unknown", f"There is no expert {event.expert[:80]!r}.", "`victoria experts` lists them."
            )
        rules, routed = looked.rules, looked.routed
        by_rules = bool(rules.calls) and not (event.strategy or event.expert)
        # Where rules are sure of all that is to be done, no model will read what is remembered.
        memories = () if by_rules and not rules.rest else await self._recalled(event, ctx)
        found = await self._known(event, turn, looked, memories, ctx)
        if found.answer:
            return self._again(event, found.answer, ctx)
        said = context(event.history, event.project, event.setting, turn.memory, memories)
        if routed and looked.sure >= SURE and not by_rules:
            goal = normalised(event.goal, (routed.expert,))
            understood = GoalUnderstood(
                restated=goal,
                category=rules.category if rules.confidence >= CLEAR or routed.category != "complex" else "multi_step",
                kind=routed.category,
                first_step=rules.first_step,
                project=event.project,
                session=event.session,
                context=said,
                expert=routed.expert,
                strategy=event.strategy or looked.own,
                delegated_by=event.delegated_by,
                answer_key=found.key,
                confidence=looked.sure,
                spent=(Spent(NAME, ctx.now()),),
            )
            strategy = self.strategies.choose(understood.kind, understood.category, understood.strategy)
            if strategy.direct and routed.expert not in self.agents:
                return self._straight(understood, await strategy.shaped(_brief(understood), _no_model))
            return [understood, self._progress(understood)]
        understood = await self._restated(event, ctx, rules, said, by_rules=by_rules)
        if routed and (event.expert or routed.who > CLEAR) and (looked.own or not by_rules):
            own = looked.own if looked.assistant and understood.category != "multi_step" else ""
            strategy = understood.strategy or own
            understood = msgspec.structs.replace(understood, expert=routed.expert, strategy=strategy)
        understood = msgspec.structs.replace(understood, answer_key=found.key)
        return [understood, self._progress(understood)]

    async def _turn(self, event: GoalSubmitted, ctx: Context[None]) -> Turn:
        """What was said before: in the session, once it is this run's turn there, else what came with the goal."""
        turn = Turn()
        if self.sessions and event.session:
            sessions = self.sessions

            async def enter(session: str, _key: str) -> Turn:
                return await sessions.enter(session, ctx.run_id, event.project)

            trust = ctx.trust
            turn = await ctx.call("session", enter, event.session, Turn)
            if not (turn.history or turn.memory):
                ctx.trust = trust  # nothing came of it that could be less trusted than the goal
        return turn if turn.history else msgspec.structs.replace(turn, history=event.history[-HISTORY_PAIRS:])

    async def _recalled(self, event: GoalSubmitted, ctx: Context[None]) -> tuple[Memory, ...]:
        """What earlier runs left that has to do with this goal, as it was when it was first looked for."""

        async def look(asked: tuple[str, str, str], _key: str) -> tuple[Memory, ...]:
            return await self.recall(*asked)

        trust = ctx.trust
        asked = event.project, event.session, normalised(event.goal)
        found = await ctx.call("recall", look, asked, returns=tuple[Memory, ...])
        ctx.trust = trust_of(found, trust)
        return found

    async def _known(
        self, event: GoalSubmitted, turn: Turn, looked: Looked, memories: tuple[Memory, ...], ctx: Context[None]
    ) -> Found:
        """Whether the answer is known from an earlier run, looked up once; and where a new one may be kept.

        It is not where rules do all, something is to be carried out, a day or time is spoken of, which may be past the
        next time, or this is a part of something larger, which wants an answer of its own.
        """
        rules, limits = looked.rules, ctx.limits
        part = event.delegated_by or (limits and limits.validates)
        decided = rules.kind == "execution" or (rules.calls and not rules.rest) or stretches(event.goal[:DATED])
        if self.answers is None or event.cache == "off" or part or decided:
            return NOTHING
        answers = self.answers

        async def look(asked: tuple[Wanted, bool], _key: str) -> Found:
            return await answers.look(asked[0], renew=asked[1])

        wanted = Wanted(
            goal=event.goal,
            project=event.project,
            asker=event.asker,
            strategy=event.strategy,
            expert=event.expert,
            model=limits.model if limits else "",
            setting=event.setting,
            history=event.history,
            before=turn.expert,
            kept=turn.memory,
            memories=memories,
        )
        trust = ctx.trust
        found = await ctx.call("known", look, (wanted, event.cache == "renew"), returns=Found)
        ctx.trust = trust
        return found

    def _again(self, event: GoalSubmitted, answer: Answer, ctx: Context[None]) -> list[Event]:
        """An earlier run's answer: this one ends with it."""
        ctx.trust = least_trusted(ctx.trust, least_trusted(answer.trust, "model"))
        found = AnswerFound(
            restated=normalised(event.goal),
            output=answer.output,
            known=answer.known,
            method=answer.method,
            model=answer.model,
            expert=answer.expert,
            project=event.project,
            session=event.session,
            spent=(Spent(NAME, ctx.now()),),
        )
        text = f"known from run {answer.known.run}: {found.restated}"
        return [found, RunProgressed(kind="understood", stage=NAME, text=text)]

    async def _look(self, asked: Asked, _key: str) -> Looked:
        """What rules and router see in a goal now. Files and experts change; what was seen once is recorded."""
        from consumers.words.rules import There, recognise  # late: compiling them takes 0.1 s of a start

        rules = recognise(asked.goal, There(*await self.names.of(asked.project)))
        if self.routes is None:
            return Looked(rules)
        roster = self.routes.roster()
        if asked.expert and asked.expert not in roster.experts:
            return Looked(rules, known=False)
        goal = f"@{asked.expert} {asked.goal}" if asked.expert else asked.goal
        routed = self.routes.route(goal, asked.before, asked.sticky, roster)
        if rules.calls and (owner := roster.owner(rules.calls[0].tool)) and not asked.expert:
            routed = Routed(
                routed.category, owner, rules.confidence, rules.confidence, f"who has {rules.calls[0].tool}"
            )
        expert = roster.experts.get(routed.expert)
        if expert is None or expert.rank == "agent":
            return Looked(rules, routed, routed.confidence)
        assistant = expert.rank == "assistant"
        return Looked(rules, routed, routed.who if assistant else routed.confidence, assistant, expert.strategy)

    async def _restated(
        self, event: GoalSubmitted, ctx: Context[None], rules: Recognised, said: str, *, by_rules: bool
    ) -> GoalUnderstood:
        """By rules, or by one call of a model where they are not sure."""
        from consumers.words.rules import faithful  # late as well

        restated, category, first_step, source = rules.restated, rules.category, rules.first_step, "rules"
        if rules.confidence < SURE:
            history = "\n".join(f"{turn.user}\n{turn.assistant}" for turn in event.history[-3:])
            try:
                answer = await ctx.ask("understand", _question(event.goal, history))
            except EffectFailed:
                pass  # the failure is in the journal; the rules' reading goes on
            else:
                if faithful(event.goal, answer.restated):
                    restated, source = answer.restated.strip(), "model"
                if rules.confidence < CLEAR:
                    category, first_step, source = answer.category, answer.first_step, "model"
        return GoalUnderstood(
            restated=restated,
            category=category,
            kind=rules.kind,
            first_step=first_step,
            project=event.project,
            session=event.session,
            context=said,
            strategy=event.strategy,
            delegated_by=event.delegated_by,
            calls=rules.calls if by_rules else (),
            question=rules.rest if by_rules else "",
            question_alone=rules.rest_alone,
            confidence=rules.confidence,
            source="model" if source == "model" else "rules",
            spent=(Spent(NAME, ctx.now(), ctx.usage()),),
        )

    def _straight(self, understood: GoalUnderstood, plan: Plan) -> list[Event]:
        """Past the plan stage: the goal is surely an expert's, and its plan takes nothing to be shaped."""
        proposed = PlanProposed(
            restated=understood.restated,
            plan=plan,
            project=understood.project,
            session=understood.session,
            context=understood.context,
            expert=understood.expert,
            answer_key=understood.answer_key,
            spent=understood.spent,
        )
        text = "; ".join(step.title for step in plan.steps)
        return [
            proposed,
            self._progress(understood),
            RunProgressed(kind="plan", stage=NAME, text=text, plan=plan),
        ]

    def _progress(self, understood: GoalUnderstood) -> RunProgressed:
        return RunProgressed(kind="understood", stage=NAME, text=understood.restated)


def _question(goal: str, history: str) -> Question[Understanding]:
    asked = PROMPT.question(
        Understanding, max_tokens=200, goal=excerpt(goal), history=excerpt(history, HISTORY_CHARACTERS)
    )
    return replace(asked, patience=PATIENCE)


def _brief(event: GoalUnderstood) -> Brief:
    return Brief(
        goal=event.restated,
        kind=event.kind,
        category=event.category,
        expert=event.expert,
        first_step=event.first_step,
        context=event.context,
    )


async def _no_model(name: str, question: Question[R]) -> R:
    raise EffectFailed("model.none", f"Nothing is asked here, so {name!r} is not.")


def stage(reader: Reader) -> Stage[GoalSubmitted, None]:
    """The stage as it stands in the topology."""
    return Stage(
        name=NAME,
        reads="intake",
        accepts=(GoalSubmitted,),
        emits=(AnswerFound, GoalUnderstood, PlanProposed, RunProgressed, DeadlineSet, StageFailed),
        handle=reader.handle,
        on_dead=stage_failed(NAME),
    )
