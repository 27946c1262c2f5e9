"""Who carries a goal out, what kind of goal it is, and what it needs: by words alone, without a model.

Words are data: by whom, in the experts' own files; of which category and what it needs, in routing.toml. This file
counts them. A confidence of SURE or more is a promise to be hardly ever wrong; what is less sure is planned.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import msgspec

from consumers.experts import Signs, Words
from consumers.keywords import Hit, Keywords, Spelling, words
from consumers.roster import Roster
from schemas.events import Exchange
from schemas.plan import TaskKind

T = TypeVar("T", bound=str)

SURE = 0.8
"""From this confidence on, a goal goes straight to its expert."""
LONGEST = 1_000
"""Of a longer goal, so many characters at its start are sorted."""
EXPERT = "victoria"
"""Who gets what nobody claims."""

_SURE, _HINT, _WORD_MORE, _FIRST, _EXPECTED, _MISSPELT = 2.0, 1.0, 0.5, 0.5, 1.0, 0.5
"""What a sure keyword counts, a hint, each further word of either, coming first, being what an expert mostly gets; and
how much of it counts where a letter is wrong."""
_ENOUGH = 3.0
"""From this score on a claim can be sure: one word alone may mean something else."""
_MOST, _SINGLE, _HINTED, _UNCLAIMED = 0.95, 0.75, 0.5, 0.3
"""How sure a claim is at most: with enough, one sure keyword, hints, nothing."""
_CLAIMS = 3
"""So many experts with a sure keyword each make a goal complex."""
_FOLLOW_UP = 8
"""Words of a turn that only goes on with what was said before."""
_ADDRESSED = re.compile(r"\s*@(\w{1,40})")


class Routed(msgspec.Struct, frozen=True):
    """Where a goal goes. `confidence` is from 0 to 1; `why` says by which words, for people."""

    category: TaskKind
    expert: str
    confidence: float
    why: str


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of routing.toml."""

    category: dict[TaskKind, Signs]
    needs: dict[str, Words]
    follow_up: Words


class Mark(NamedTuple, Generic[T]):
    """What a keyword speaks for, and whether surely."""

    whom: T
    sure: bool


def _marks(whom: T, signs: Signs) -> Iterator[tuple[str, Mark[T]]]:
    for sure, by_language in ((True, signs.sure), (False, signs.hints)):
        for keywords in by_language.values():
            yield from ((keyword, Mark(whom, sure)) for keyword in keywords)


_DATA = msgspec.toml.decode(Path(__file__).with_name("routing.toml").read_bytes(), type=Data)
_CATEGORIES: Keywords[Mark[TaskKind]] = Keywords(
    mark for category, signs in _DATA.category.items() for mark in _marks(category, signs)
)
_NEEDS = Keywords(
    (keyword, need) for need, by_language in _DATA.needs.items() for said in by_language.values() for keyword in said
)
_FOLLOW_UPS = Keywords((keyword, True) for said in _DATA.follow_up.values() for keyword in said)


class Claim(NamedTuple, Generic[T]):
    """How much speaks for something, and by which keywords; `sure` if one of these decides alone."""

    whom: T
    score: float
    sure: bool
    by: tuple[str, ...]


def needs(goal: str) -> tuple[str, ...]:
    """The capabilities of agents that a goal needs, the most wanted first; none if its words don't tell."""
    counts: dict[str, int] = {}
    for hit in _NEEDS.find(words(goal[:LONGEST])):
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
        the session unless words are sure of another. Without it, a goal that goes on with what was said before goes
        where that went.
        """
        said, misspelt = self._spelt(words(goal[:LONGEST]))
        claims = _claims(self._experts.find(said), misspelt)
        if (name := _addressed(goal)) in self._roster.experts:
            return self._routed(said, misspelt, [Claim(name, 9, sure=True, by=(f"@{name}",))])
        routed = self._routed(said, misspelt, claims)
        if sticky in self._roster.experts and routed.expert != sticky and routed.confidence < SURE:
            # With no other in sight it stays for sure; against hints for another, the planner looks too.
            why = f"{self._roster.experts[sticky].display_name} had the last turn"
            confidence = 0.6 if claims and not self._goes_on(said) else SURE
            return Routed(routed.category, sticky, confidence, why)
        if not sticky and history and routed.confidence < SURE and self._goes_on(said):
            before = self.route(history[-1].user)
            if before.confidence > routed.confidence:
                return Routed(before.category, before.expert, min(before.confidence, 0.75), f"as before: {before.why}")
        return routed

    def _spelt(self, said: list[str]) -> tuple[list[str], frozenset[int]]:
        """The words, put right where they are no keywords but nearly, and the numbers of those."""
        fixed: dict[int, str] = {}
        for number, word in enumerate(said):
            if not (self._experts.starts(word) or _CATEGORIES.starts(word)) and (
                meant := self._spelling.corrected(word)
            ):
                fixed[number] = meant
        return [fixed.get(number, word) for number, word in enumerate(said)], frozenset(fixed)

    def _routed(self, said: Sequence[str], misspelt: frozenset[int], claims: Sequence[Claim[str]]) -> Routed:
        """By the claims of experts, the best first, and those of categories."""
        best = claims[0] if claims else Claim(EXPERT, 0.0, sure=False, by=())
        categories = _categories(said, misspelt, self._usual(best.whom))
        kind = categories[0].whom if categories else self._usual(best.whom)
        whole = next((claim for claim in categories if claim.whom == "complex" and claim.sure), None)
        claimed = sum(claim.sure for claim in claims)
        if kind == "complex" or (whole and claimed >= _CLAIMS):
            by = whole.by if whole else best.by
            return Routed("complex", EXPERT, 0.85 if claimed >= _CLAIMS else 0.6, f"many parts: {', '.join(by)}")
        confidence = min(_confidence(claims), max(_confidence(categories), _HINTED))
        why = ", ".join(best.by) or "no expert's words"
        return Routed(kind, best.whom, round(confidence, 2), why)

    def _usual(self, name: str) -> TaskKind:
        expert = self._roster.experts.get(name)
        return expert.category if expert else "general"

    def _goes_on(self, said: Sequence[str]) -> bool:
        return len(said) <= _FOLLOW_UP and any(hit.at == 0 for hit in _FOLLOW_UPS.find(said[:4]))


def _addressed(goal: str) -> str:
    found = _ADDRESSED.match(goal)
    return found[1].casefold() if found else ""


def _categories(said: Sequence[str], misspelt: frozenset[int], usual: TaskKind) -> list[Claim[TaskKind]]:
    claims = _claims(_CATEGORIES.find(said), misspelt)
    found = {claim.whom: claim for claim in claims}
    expected = found.get(usual, Claim(usual, 0.0, sure=False, by=()))
    found[usual] = expected._replace(score=expected.score + _EXPECTED)
    return sorted(found.values(), key=lambda claim: -claim.score)


def _claims(hits: Iterable[Hit[Mark[T]]], misspelt: frozenset[int]) -> list[Claim[T]]:
    """What the hits speak for, the most first. A keyword counts once, however often it is said."""
    scores: dict[T, float] = {}
    sure: dict[T, bool] = {}
    by: dict[T, dict[str, None]] = {}
    for number, hit in enumerate(hits):
        weight = _WORD_MORE * hit.keyword.count(" ") + (0 if number else _FIRST)
        for whom, decides in hit.means:
            if hit.keyword in by.setdefault(whom, {}):
                continue
            by[whom][hit.keyword] = None
            wrong = hit.at in misspelt
            scores[whom] = scores.get(whom, 0) + (weight + (_SURE if decides else _HINT)) * (_MISSPELT if wrong else 1)
            sure[whom] = sure.get(whom, False) or (decides and not wrong)
    claims = [Claim(whom, score, sure[whom], tuple(by[whom])) for whom, score in scores.items()]
    return sorted(claims, key=lambda claim: -claim.score)


def _confidence(claims: Sequence[Claim[T]]) -> float:
    """How sure the first of these claims is, by what speaks for it and how much less for the next."""
    if not claims or not claims[0].by:
        return _UNCLAIMED
    best, second = claims[0].score, claims[1].score if len(claims) > 1 else 0.0
    most = _MOST if best >= _ENOUGH and claims[0].sure else _SINGLE if claims[0].sure else _HINTED
    return min(most, 0.5 + 0.5 * (best - second) / best)
