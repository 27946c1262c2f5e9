"""Hypotheses on the server: what is known of each, which ones there are, and how the runs that check them are begun.

A hypothesis is a run of its own, and so is each goal that is to find out about it: these say in their limits whose
they are. What has to be said in another run is published there, once, under an id that follows from whose it is.
"""

from collections.abc import AsyncIterator
from typing import Any, Literal, cast

import msgspec

from schemas.envelope import derived_id
from schemas.errors import InvalidInput
from schemas.events import GoalSubmitted, HypothesisJudged, HypothesisRaised, ValidationFinished
from schemas.plan import Limits, Moment, Trust, Verdict
from streams.append import Publisher
from streams.connection import Client
from streams.keys import Keys

NAME = "hypothesis-validation"
GOALS = 3
"""Runs that find out about one hypothesis, at most."""
LISTED = 10_000
"""Hypotheses of a partition that are listed, the latest ones."""
AT_ONCE = 100


class HypothesisState(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that is known of a hypothesis. `goals` are those that are to find out about it, and `results` how their runs
    ended, by the runs' ids; `due` is when it is judged at the latest."""

    raised: HypothesisRaised | None = None
    at: Moment | None = None
    due: Moment | None = None
    goals: dict[str, str] = {}
    results: dict[str, ValidationFinished] = {}
    judged: HypothesisJudged | None = None
    trust: Trust = "operator"


class ValidationView(msgspec.Struct, frozen=True):
    """A run that is to find out about a hypothesis."""

    run_id: str
    goal: str
    status: Literal["running", "completed", "failed", "cancelled"]
    output: str


class HypothesisView(msgspec.Struct, frozen=True):
    """A hypothesis for people: `validating` until it is judged."""

    id: str
    statement: str
    verdict: Verdict | Literal["validating"]
    confidence: float
    evidence: tuple[str, ...]
    why: str
    project: str
    source: str
    raised_at: Moment
    due: Moment
    validations: tuple[ValidationView, ...]


class Begun(msgspec.Struct, frozen=True):
    """A hypothesis that is given a run of its own."""

    id: str
    raised: HypothesisRaised
    trust: Trust


class Validations(msgspec.Struct, frozen=True):
    """The goals by their runs' ids that are to find out about a hypothesis, and until when."""

    id: str
    project: str
    goals: dict[str, str]
    due: Moment
    at: Moment
    trust: Trust
    limits: Limits


class Hypotheses:
    """The hypotheses of a server."""

    def __init__(self, client: Client, keys: Keys, publisher: Publisher) -> None:
        self._client: Any = client
        self._keys, self._publisher = keys, publisher

    async def begin(self, begun: Begun, _key: str = "") -> None:
        """Give a hypothesis its run; again and again changes nothing."""
        await self._publisher.publish([(begun.id, begun.raised)], NAME, begun.trust)

    async def submit(self, wanted: Validations, _key: str = "") -> None:
        """List a hypothesis, and submit what is to find out about it; again and again changes nothing."""
        key = self._keys.hypotheses(self._keys.of_run(wanted.id))
        both = self._client.pipeline(transaction=False)
        both.zadd(key, {wanted.id: wanted.at.timestamp()})
        both.zremrangebyrank(key, 0, -LISTED - 1)
        await both.execute()
        goals = [(run, GoalSubmitted(goal=goal, project=wanted.project)) for run, goal in wanted.goals.items()]
        await self._publisher.publish(goals, "intake", wanted.trust, wanted.limits)

    async def tell(self, ended: tuple[ValidationFinished, Trust], _key: str = "") -> None:
        """Say in a hypothesis' own run how one of its validations ended; again and again changes nothing."""
        event, trust = ended
        await self._publisher.add(event.hypothesis, event, NAME, trust, about=event.validation)

    async def show(self, hypothesis: str) -> HypothesisView:
        """A hypothesis. Raises InvalidInput `hypothesis.unknown`."""
        if found := await self._view(hypothesis):
            return found
        raise InvalidInput(
            "hypothesis.unknown",
            f"There is no hypothesis {hypothesis[:80]!r}, or no stage has come to it yet.",
            "`victoria hypotheses` lists them.",
        )

    async def newest(self, limit: int) -> list[HypothesisView]:
        """The hypotheses that were raised last, the newest first."""
        found: list[HypothesisView] = []
        for partition in self._keys.of_stream(NAME):
            found += [each async for each in self._listed(partition, limit)]
        return sorted(found, key=lambda each: each.raised_at, reverse=True)[:limit]

    async def _listed(self, partition: str, limit: int) -> AsyncIterator[HypothesisView]:
        """Those of a partition. Of which nothing is left any more, they are taken off the list."""
        key, seen, given = self._keys.hypotheses(partition), 0, 0
        while given < limit:
            ids = cast("list[bytes]", await self._client.zrevrange(key, seen, seen + AT_ONCE - 1))
            for raw in ids:
                if found := await self._view(raw.decode()):
                    yield found
                    given += 1
                elif not await self._client.exists(self._keys.run(partition, raw.decode())):
                    await self._client.zrem(key, raw)
                    continue
                seen += 1
                if given == limit:
                    break
            if not ids:
                break

    async def _view(self, hypothesis: str) -> HypothesisView | None:
        data = await self._client.hget(self._keys.run(self._keys.of_run(hypothesis), hypothesis), NAME)
        if data is None:
            return None
        return view(hypothesis, msgspec.json.decode(data, type=HypothesisState))


def view(hypothesis: str, state: HypothesisState) -> HypothesisView | None:
    """A hypothesis for people; None before it was raised."""
    raised, judged = state.raised, state.judged
    if not (raised and state.at and state.due):
        return None
    return HypothesisView(
        id=hypothesis,
        statement=raised.statement,
        verdict=judged.verdict if judged else "validating",
        confidence=judged.confidence if judged else 0.0,
        evidence=judged.evidence if judged else raised.evidence,
        why=judged.why if judged else "",
        project=raised.project,
        source=raised.source,
        raised_at=state.at,
        due=state.due,
        validations=tuple(_validation(run, goal, state.results.get(run)) for run, goal in state.goals.items()),
    )


def _validation(run_id: str, goal: str, result: ValidationFinished | None) -> ValidationView:
    return ValidationView(run_id, goal, result.status if result else "running", result.output if result else "")


def validation_ids(hypothesis: str) -> tuple[str, ...]:
    """The ids of the runs that may find out about a hypothesis."""
    return tuple(derived_id(hypothesis, "validation", number) for number in range(GOALS))
