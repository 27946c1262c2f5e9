"""Who carries a goal out, what kind of goal it is, and what it needs: by words alone, without a model.

Words are data: for whom they speak stands in the experts' own files, for which category and which need in routing.toml.
This file counts them. A confidence of SURE or more is a promise to be hardly ever wrong; the rest is left to a planner.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from consumers.experts.expert import Signs, Words
from consumers.experts.roster import Roster
from consumers.strategies.strategy import EXPERT
from consumers.words.findings import Routed
from consumers.words.keywords import Hit, Keywords, Spelling, words
from schemas.events import Exchange
from schemas.plan import TaskKind

SURE = 0.8
"""From this confidence on, a goal goes straight to its expert."""
LONGEST = 1_000
"""Of a longer goal, so many characters at its start are sorted."""
# What a keyword counts: one that is sure, a hint; each further word of it; coming first; with a letter wrong, so much
# of all that. And for a category, that it is what the expert mostly gets.
_SURE, _HINT, _FURTHER, _FIRST, _MISSPELT, _EXPECTED = 2.0, 0.75, 0.5, 0.5, 0.5, 1.5

_ENOUGH = 3.25
"""From this score on a claim can be sure: one word alone may mean something else."""
_MOST, _SINGLE, _HINTED, _UNCLAIMED = 0.95, 0.75, 0.5, 0.3
"""How sure a claim is at most: with enough, with one sure keyword, with hints, with nothing."""
_NAMED, _MANY, _WHOLE, _AS_BEFORE, _STICKY = 0.98, 0.85, 0.6, 0.75, 0.6
"""How sure it is that a goal goes to whom it names; is a whole project, with many experts' words or without; goes where
the turn before went; stays where that went though it has another's words."""
_CLAIMS = 3
"""So many experts' sure keywords, beside a word for the whole, make a goal complex."""
_GOES_ON = 8
"""Words, at most, of a turn that only goes on with what was said before."""
_ADDRESSED = re.compile(r"\s*@(\w{1,40})")


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of routing.toml."""

    category: dict[TaskKind, Signs]
    needs: dict[str, Words]
    follow_up: Words


class Mark(NamedTuple):
    """What a keyword speaks for, and whether surely."""

    of: str
    sure: bool


class Claim(NamedTuple):
    """How much speaks for an expert or a category, and by which keywords; `sure` if one of these decides alone."""

    of: str
    score: float = 0.0
    sure: bool = False
    by: tuple[str, ...] = ()


def _marks(of: str, signs: Signs) -> Iterator[tuple[str, Mark]]:
    for sure, by_language in ((True, signs.sure), (False, signs.hints)):
        for keywords in by_language.values():
            yield from ((keyword, Mark(of, sure)) for keyword in keywords)


def _each(by_language: Words) -> Iterator[str]:
    for keywords in by_language.values():
        yield from keywords


_DATA = msgspec.toml.decode(Path(__file__).with_name("routing.toml").read_bytes(), type=Data)
_CATEGORIES = Keywords(mark for category, signs in _DATA.category.items() for mark in _marks(category, signs))
_NEEDS = Keywords((keyword, need) for need, by_language in _DATA.needs.items() for keyword in _each(by_language))
_GOING_ON = Keywords((keyword, True) for keyword in _each(_DATA.follow_up))


def needs(goal: str) -> tuple[str, ...]:
    """The capabilities of agents that a goal needs, the most wanted first; none if its words don't tell."""
    return _needs(words(goal[:LONGEST]))


def _needs(said: Sequence[str]) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    for hit in _NEEDS.find(said):
        for need in hit.means:
            counts[need] = counts.get(need, 0) + 1
    return tuple(sorted(counts, key=lambda need: -counts[need]))


class Router:
    """Routes goals to the experts of one roster."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._experts = Keywords(
            mark for expert in roster.experts.values() for mark in _marks(expert.name, expert.keywords)
        )
        self._spelling = Spelling(self._experts.vocabulary | _CATEGORIES.vocabulary)

    def route(self, goal: str, history: Sequence[Exchange] = (), sticky: str = "") -> Routed:
        """Where a goal goes, in time linear in its length; of equal arguments always the same.

        A goal that begins with @name goes to that expert. `sticky`, the expert that had the session's last turn, keeps
        the session unless words are sure of another. Without it, a goal that only goes on with what was said before
        goes where that went.
        """
        said, misspelt = self._spelt(words(goal[:LONGEST]))
        named = _ADDRESSED.match(goal)
        if named and named[1].casefold() in self._roster.experts:
            kind = self._categories(said, misspelt, named[1].casefold())[0].of
            return Routed(cast("TaskKind", kind), named[1].casefold(), _NAMED, _NAMED, named[0].strip())
        claims = _claims(self._experts.find(said), misspelt)
        routed = self._by_words(said, misspelt, claims)
        if routed.confidence >= SURE:
            return routed
        goes_on = len(said) <= _GOES_ON and any(hit.at <= 1 for hit in _GOING_ON.find(said))
        if sticky in self._roster.experts:
            # With no other in sight it stays for sure; against another's words, the planner looks too.
            stays = goes_on or all(claim.of == sticky for claim in claims[:1])
            kind = self._categories(said, misspelt, sticky)[0].of
            sure = SURE if stays else _STICKY
            return Routed(cast("TaskKind", kind), sticky, sure, sure, f"{sticky} had the last turn")
        if not sticky and history and goes_on:
            before = self.route(history[-1].user)
            if before.confidence > routed.confidence:
                why = f"as before: {before.why}"
                confidence, who = min(before.confidence, _AS_BEFORE), min(before.who, _AS_BEFORE)
                return Routed(before.category, before.expert, confidence, who, why)
        return routed

    def claimed(self, goal: str) -> tuple[str, ...]:
        """The experts whose keywords a goal has, who has most to say for them first."""
        said, misspelt = self._spelt(words(goal[:LONGEST]))
        return tuple(claim.of for claim in _claims(self._experts.find(said), misspelt))

    def _spelt(self, said: list[str]) -> tuple[list[str], frozenset[int]]:
        """The words, put right where they are no keywords but nearly, and the numbers of those."""
        fixed: dict[int, str] = {}
        for number, word in enumerate(said):
            if not self._experts.starts(word) and not _CATEGORIES.starts(word):
                meant = self._spelling.corrected(word)
                if meant:
                    fixed[number] = meant
        return [fixed.get(number, word) for number, word in enumerate(said)], frozenset(fixed)

    def _by_words(self, said: Sequence[str], misspelt: frozenset[int], claims: Sequence[Claim]) -> Routed:
        best = claims[0] if claims else Claim(self._able(said))
        categories = self._categories(said, misspelt, best.of)
        claimed = sum(claim.sure for claim in claims)
        whole = next((claim for claim in categories if claim.of == "complex" and claim.sure), None)
        if whole and (whole is categories[0] or claimed >= _CLAIMS):
            confidence = _MANY if claimed >= _CLAIMS else _WHOLE
            return Routed("complex", EXPERT, confidence, confidence, f"a whole project: {', '.join(whole.by)}")
        who = _confidence(claims)
        confidence = min(who, max(_confidence(categories), _HINTED))
        why = ", ".join(best.by) or "no expert's words"
        return Routed(cast("TaskKind", categories[0].of), best.of, round(confidence, 2), round(who, 2), why)

    def _able(self, said: Sequence[str]) -> str:
        """Whose goal it is that no expert claims: the agent's who is best at what it needs."""
        agents = [expert.name for expert in self._roster.experts.values() if expert.rank == "agent"]
        best = self._roster.best(_needs(said)[:1], among=agents) if agents else None
        return best.name if best else EXPERT

    def _categories(self, said: Sequence[str], misspelt: frozenset[int], expert: str) -> list[Claim]:
        """What kind of goal it can be, the likeliest first; at least what this expert mostly gets."""
        claims = {claim.of: claim for claim in _claims(_CATEGORIES.find(said), misspelt)}
        usual = self._roster.experts[expert].category if expert in self._roster.experts else "general"
        expected = claims.get(usual, Claim(usual))
        claims[usual] = expected._replace(score=expected.score + _EXPECTED)
        return sorted(claims.values(), key=lambda claim: -claim.score)


@lru_cache(maxsize=4)
def router(roster: Roster) -> Router:
    """The router of a roster, made once: reading all keywords takes a while."""
    return Router(roster)


def _claims(hits: Iterable[Hit[Mark]], misspelt: frozenset[int]) -> list[Claim]:
    """What the hits speak for, the most first. A keyword counts once, however often it is said."""
    claims: dict[str, Claim] = {}
    for number, hit in enumerate(hits):
        more = _FURTHER * hit.keyword.count(" ") + (0 if number else _FIRST)
        wrong = hit.at in misspelt
        for of, sure in hit.means:
            claim = claims.get(of, Claim(of))
            if hit.keyword not in claim.by:
                score = (more + (_SURE if sure else _HINT)) * (_MISSPELT if wrong else 1)
                claims[of] = Claim(
                    of, claim.score + score, claim.sure or (sure and not wrong), (*claim.by, hit.keyword)
                )
    return sorted(claims.values(), key=lambda claim: -claim.score)


def _confidence(claims: Sequence[Claim]) -> float:
    """How sure the first of these claims is, by what speaks for it and how much less for the next."""
    if not claims or not claims[0].by:
        return _UNCLAIMED
    best, second = claims[0].score, claims[1].score if len(claims) > 1 else 0.0
    most = _HINTED if not claims[0].sure else _SINGLE if best < _ENOUGH else _MOST
    return min(most, 0.5 + 0.5 * (best - second) / best)
