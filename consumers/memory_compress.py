"""memory-compress: what was said in a session is kept, its next turn may come, and what is worth keeping is found.

The turn ends before any model is asked: nobody waits for that. A memory that would have too much is compressed before
anything is written, so it is at no moment over its limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Annotated, TypeVar

import msgspec

from consumers.session_memory.items import TEXT_CHARACTERS, Item, Items, Tag, item, joined, size, trimmed
from consumers.session_memory.stored import Change
from consumers.sessions import Heard, Sessions
from llm.prompts import excerpt, prompt
from schemas.errors import EffectFailed
from schemas.events import Event, ExchangeCompleted, HypothesisRaised, MemoryKept
from schemas.inference import Question
from schemas.plan import Trust, least_trusted
from streams.stage import Context, Stage

R = TypeVar("R")

NAME = "memory-compress"
REMEMBER, COMPRESS = prompt("remember"), prompt("compress")
TARGET = 0.75
"""The part of its limit that a memory is compressed to, so that the next exchanges find room."""
PATIENCE = 60.0
"""Seconds for which this waits for a model to be there; then rules alone decide."""
SAID_CHARACTERS, ANSWER_CHARACTERS = 2_000, 500
BYTES_A_TOKEN = 3
"""An estimate on the safe side."""


class Shorter(msgspec.Struct, frozen=True):
    """One thing of a compressed memory."""

    tag: Tag
    text: Annotated[str, msgspec.Meta(min_length=3, max_length=TEXT_CHARACTERS)]


class Compressed(msgspec.Struct, frozen=True):
    """What a model makes of a memory."""

    items: Annotated[tuple[Shorter, ...], msgspec.Meta(min_length=1, max_length=100)]


class Worthy(msgspec.Struct, frozen=True):
    """What rules find in an exchange, as it was `heard`: things to keep, and hypotheses. Whether they are `sure` that
    there is no more, and whether it is still to be considered, `due`."""

    heard: Heard
    items: Items = ()
    hypotheses: tuple[str, ...] = ()
    sure: bool = True
    due: bool = False


@dataclass(frozen=True)
class Keeper:
    """Keeps what was said in sessions, and what of it is worth that."""

    sessions: Sessions

    async def handle(self, event: ExchangeCompleted, ctx: Context[None]) -> Sequence[Event]:
        """One exchange in; what is worth keeping out."""

        async def end_turn(ended: ExchangeCompleted, _key: str) -> Worthy:
            await self.sessions.keep(ctx.run_id, ended)
            return await self._looked(ended, ctx.run_id)

        found = await ctx.call("end_turn", end_turn, event, Worthy, effects="repeat")
        if not found.due:
            return []
        new = found.items if found.sure else (*found.items, *await self._asked(event, ctx, found))
        if new:
            await self._append(event, ctx, new)
        elif not found.sure:
            await ctx.call("pass_over", self._pass_over, (event.session, ctx.run_id), type(None), effects="repeat")
        # What goes out is the user's words, or what a model made of these.
        ctx.trust = reduce(least_trusted, (each.trust for each in new), found.heard.trust)
        return [*self._kept(event, new), *self._raised(event, ctx.run_id, found.hypotheses)]

    async def _looked(self, ended: ExchangeCompleted, run_id: str) -> Worthy:
        """What rules find; where they surely find nothing, that is the end of it."""
        from consumers.session_memory.worth import by_rules  # late: compiling them takes a part of a start

        heard, memory = await self.sessions.heard(run_id, ended), self.sessions.memory
        if not await memory.is_due(ended.session, run_id):
            return Worthy(heard)
        judged = by_rules(heard.goal)
        items = [
            item(found.kind, found.text, heard.trust, f"run:{run_id}")
            for found in judged.found
            if found.kind != "hypothesis"
        ]
        if judged.sure and not items:
            await memory.pass_over(ended.session, run_id)
        guesses = tuple(found.text for found in judged.found if found.kind == "hypothesis")
        return Worthy(heard, tuple(items), guesses, judged.sure, due=True)

    async def _asked(self, event: ExchangeCompleted, ctx: Context[None], found: Worthy) -> list[Item]:
        """What a model would keep, as far as the user has said it."""
        from consumers.session_memory.worth import Worth, grounded

        said = excerpt(found.heard.goal, SAID_CHARACTERS)
        question = REMEMBER.question(Worth, max_tokens=250, said=said, answer=excerpt(event.output, ANSWER_CHARACTERS))
        try:
            worth = await ctx.ask("remember", _aside(question))
        except EffectFailed:
            return []
        trust = least_trusted(found.heard.trust, "model")
        kept = [item(each.tag, each.text, trust, f"run:{ctx.run_id}") for each in worth.keep]
        return [each for each in kept if grounded(each.text, found.heard.goal)]

    async def _append(self, event: ExchangeCompleted, ctx: Context[None], new: Items) -> None:
        """Put new items into the memory, which is compressed first where they find no room."""
        memory = self.sessions.memory

        async def read(session: str, _key: str) -> Items:
            return await memory.read(session, event.project)

        before = await ctx.call("read", read, event.session, Items)
        whole = joined(before, new)
        after = trimmed(whole, memory.limit)
        if after != whole:
            after = await self._compressed(ctx, whole) or after

        async def append(change: Change, _key: str) -> bool:
            return await memory.append(change)

        change = Change(event.session, event.project, ctx.run_id, new, before, after)
        await ctx.call("append", append, change, bool, effects="repeat")

    async def _compressed(self, ctx: Context[None], whole: Items) -> Items | None:
        """What a model makes of a memory; None where that is of no use: too much, not less, or not from it."""
        from consumers.session_memory.worth import grounded

        limit = self.sessions.memory.limit
        room = int(limit * TARGET)
        text = "\n".join(f"[{each.tag}] {each.text}" for each in whole)
        question = COMPRESS.question(Compressed, max_tokens=room // BYTES_A_TOKEN + 200, room=f"{room}", memory=text)
        try:
            said = await ctx.ask("compress", _aside(question))
        except EffectFailed:
            return None
        trust: Trust = reduce(least_trusted, (each.trust for each in whole), "model")
        items = tuple(item(each.tag, each.text, trust) for each in said.items)
        useful = all(each.text and grounded(each.text, text) for each in items)
        return items if useful and size(items) <= min(limit, size(whole) - 1) else None

    async def _pass_over(self, exchange: tuple[str, str], _key: str) -> None:
        await self.sessions.memory.pass_over(*exchange)

    def _kept(self, event: ExchangeCompleted, new: Items) -> list[Event]:
        return [
            MemoryKept(
                project=event.project,
                session=event.session,
                tag=each.tag,
                text=each.text,
                trust=each.trust,
                source=each.source,
            )
            for each in new
        ]

    def _raised(self, event: ExchangeCompleted, run_id: str, hypotheses: Sequence[str]) -> list[Event]:
        return [
            HypothesisRaised(statement=text, project=event.project, session=event.session, source=f"run:{run_id}")
            for text in hypotheses
        ]


def _aside(question: Question[R]) -> Question[R]:
    """A question that nobody waits for, after the run's end."""
    return replace(question, priority="background", patience=PATIENCE, outlives_run=True)


def stage(sessions: Sessions) -> Stage[ExchangeCompleted, None]:
    """The stage as it stands in the topology."""
    return Stage(
        name=NAME,
        reads=NAME,
        accepts=(ExchangeCompleted,),
        emits=(MemoryKept, HypothesisRaised),
        handle=Keeper(sessions).handle,
    )
