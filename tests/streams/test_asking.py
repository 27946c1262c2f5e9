"""A question goes on until there is an answer or no use in asking, and all of it is in the journal."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import pytest
from redis.exceptions import ConnectionError as Disconnected

from schemas.advice import INVALID, NO_OTHER, TRIES, Tried, next_try
from schemas.errors import EffectFailed, ErrorInfo, ModelFailed, NoModelNow
from schemas.events import Event, GoalSubmitted, InferenceRequested
from schemas.inference import Question
from schemas.plan import Usage
from streams import answers, asking
from streams.answers import Answers
from streams.asking import Asker, Asking, NoModels, Route, Waiting
from streams.journal import Journal, Record
from streams.keys import INFERENCE
from streams.stage import AnyStage, Stage
from streams.worker import Terms
from tests.workshop import QUICK, TERMS, Workshop, eventually, intake_stage, understood


class Verdict(msgspec.Struct):
    score: Annotated[int, msgspec.Meta(ge=0, le=10)]


QUESTION = Question(system="Judge.", user="<text>it works</text>", answer=Verdict)
GOOD = '{"score": 7}'
BAD = '{"score": 70}'
LARGE, SMALL = Route("infer.ollama", "large"), Route("infer.local", "small")
AWAY = ErrorInfo("model.unreachable", "It is away.")
ABSENT = NoModelNow("model.absent", "Nobody offers a model.", "Start a consumer.")
RESTING = NoModelNow("model.resting", "It is left alone for a while.", "It is tried again soon.")


class Routing:
    """A router with a script: `choose` says where a question goes after these tries, or what stands against it."""

    def __init__(self, choose: Callable[[Sequence[Tried]], Route | Exception]) -> None:
        self.choose, self.calls = choose, list[list[Tried]]()
        self.gone = set[str]()

    async def route(self, question: Question[Any], tried: Sequence[Tried]) -> Route:
        self.calls.append(list(tried))
        found = self.choose(tried)
        if isinstance(found, Exception):
            raise found
        return found

    async def serves(self, route: Route) -> bool:
        return route.stream not in self.gone


def two(tried: Sequence[Tried]) -> Route | Exception:
    """A large model, and a small one for when that won't do."""
    names = {each.model for each in tried}
    if {"large", "small"} <= names and next_try(tried) == "other model":
        return ModelFailed(NO_OTHER, "There is none beside them.", "Offer more.")
    if tried and next_try(tried) == "repair":
        return LARGE if tried[-1].model == "large" else SMALL
    return SMALL if "large" in names else LARGE


def asks(question: Question[Any] = QUESTION) -> AnyStage:
    """A stage that says the verdict, and what it cost."""

    async def handle(_event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        try:
            verdict = await ctx.ask("judge", question)
        except EffectFailed as problem:
            verdict = problem.code
        usage: Usage = ctx.usage()
        return [understood(f"{getattr(verdict, 'score', verdict)} {usage.calls} {usage.tokens_in} {usage.tokens_out}")]

    return intake_stage(handle)


Said = str | ErrorInfo
Script = Callable[[InferenceRequested], Said]


def says(workshop: Workshop, script: Script | Sequence[Said], stream: str = "infer.local") -> AnyStage:
    """An inference stage with a script instead of a model. It lets questions fall that nobody waits for any more."""
    journal, left = Journal(workshop.client, workshop.keys), [] if callable(script) else list(script)

    async def handle(event: InferenceRequested, ctx: Any) -> Sequence[Event]:
        if event.deadline < datetime.now(UTC):
            return []
        said = script(event) if callable(script) else left.pop(0)
        now = datetime.now(UTC)
        if isinstance(said, str):
            result = msgspec.Raw(msgspec.json.encode(said))
            record = Record("ask", event.request, now, result, usage=Usage(event.model, 1, 10, 5))
        else:
            record = Record("ask", event.request, now, error=said, usage=Usage(event.model))
        await journal.answer(ctx.run_id, event.effect, record, event.reply_to)
        return []

    return Stage(stream, (InferenceRequested,), (), handle, stream, QUICK)


async def outcome(workshop: Workshop) -> str:
    """Wait for the end; what the stage said."""

    async def there() -> bool:
        return bool(await workshop.entries("results") or await workshop.entries("dead"))

    await eventually(there)
    assert await workshop.entries("dead") == []
    (body,) = await workshop.bodies("results")
    return str(getattr(body, "restated", ""))


async def records(workshop: Workshop, run: str = "run-0") -> dict[str, tuple[str, str]]:
    """What is recorded, by the question's name: the model, and the error's code."""
    found = await Journal(workshop.client, workshop.keys).everything(run)
    return {
        effect.rpartition("/")[2]: (record.usage.model, record.error.code if record.error else "")
        for effect, record in sorted(found.items())
    }


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    monkeypatch.setattr(asking, "PUT_OFF", 0.05)
    monkeypatch.setattr(answers, "LOOK_AGAIN", 0.1)


@pytest.mark.parametrize(
    ("large", "small", "said", "recorded"),
    [
        ([GOOD], [], "7 1 10 5", {"judge": ("large", "")}),
        ([BAD, GOOD], [], "7 2 20 10", {"judge": ("large", ""), "judge.2": ("large", "")}),
        (
            [BAD, "what?"],
            [GOOD],
            "7 3 30 15",
            {"judge": ("large", ""), "judge.2": ("large", ""), "judge.3": ("small", "")},
        ),
        (
            [BAD, BAD],
            [BAD, BAD],
            f"{INVALID} 4 40 20",
            {
                "judge": ("large", ""),
                "judge.2": ("large", ""),
                "judge.3": ("small", ""),
                "judge.4": ("small", ""),
            },
        ),
        ([AWAY], [GOOD], "7 1 10 5", {"judge": ("large", "model.unreachable"), "judge.2": ("small", "")}),
        (
            [ErrorInfo("model.refused", "No.")],
            [],
            "model.refused 0 0 0",
            {"judge": ("large", "model.refused")},
        ),
        (
            [ErrorInfo("model.cut", "Too long.")],
            [ErrorInfo("model.cut", "Too long.")],
            "model.cut 0 0 0",
            {"judge": ("large", "model.cut"), "judge.2": ("small", "model.cut"), "judge.3": ("", NO_OTHER)},
        ),
    ],
    ids=["at once", "repaired", "another model", "never right", "away", "refused", "none beside them"],
)
async def test_every_try_is_recorded_and_what_they_cost_adds_up(
    workshop: Workshop, large: list[Said], small: list[Said], said: str, recorded: dict[str, tuple[str, str]]
) -> None:
    stages = asks(), says(workshop, large, LARGE.stream), says(workshop, small, SMALL.stream)
    async with workshop.working(*stages, router=Routing(two)):
        await workshop.publish("x")
        assert await outcome(workshop) == said
    assert await records(workshop) == recorded


async def test_only_a_repair_is_told_what_was_wrong_and_of_the_same_model(workshop: Workshop) -> None:
    asked: list[InferenceRequested] = []

    def script(event: InferenceRequested) -> str:
        asked.append(event)
        return BAD

    stages = asks(), says(workshop, script, LARGE.stream), says(workshop, script, SMALL.stream)
    async with workshop.working(*stages, router=Routing(two)):
        await workshop.publish("x")
        await outcome(workshop)
    assert [event.model for event in asked] == ["large", "large", "small", "small"]
    assert [BAD in event.messages[1].content for event in asked] == [False, True, False, True]
    assert {event.messages[0] for event in asked} == {QUESTION.messages[0]}


async def test_tries_end_though_a_router_knows_no_end(workshop: Workshop) -> None:
    router = Routing(lambda _tried: SMALL)
    async with workshop.working(asks(), says(workshop, lambda _event: AWAY), router=router):
        await workshop.publish("x")
        assert await outcome(workshop) == "model.unreachable 0 0 0"
    assert len(router.calls) == len(await records(workshop)) == TRIES


@pytest.mark.parametrize("code", ["model.none", "model.overflow", NO_OTHER, "model.broken"])
async def test_where_the_router_has_nobody_to_ask_that_is_the_answer(workshop: Workshop, code: str) -> None:
    router = Routing(lambda _tried: ModelFailed(code, "No.", "Do this."))
    async with workshop.working(asks(), router=router):
        await workshop.publish("x")
        assert await outcome(workshop) == f"{code} 0 0 0"
    assert await records(workshop) == {"judge": ("", code)}


async def test_an_answer_that_nests_without_end_is_an_invalid_one(workshop: Workshop) -> None:
    question = Question(system="Judge.", user="x", answer=list[Any])
    stages = asks(question), says(workshop, ["[" * 5000 + "]" * 5000, "[1]"])
    async with workshop.working(*stages, router=Routing(lambda _tried: SMALL)):
        await workshop.publish("x")
        assert await outcome(workshop) == "[1] 2 20 10"


class TestDeferral:
    """While there is no model, the event waits, and its run says why."""

    @pytest.mark.parametrize("problem", [ABSENT, RESTING], ids=lambda problem: problem.code)
    async def test_it_goes_on_by_itself_when_there_is_one_and_no_attempt_is_counted(
        self, workshop: Workshop, problem: NoModelNow
    ) -> None:
        offered: list[Route] = []
        router = Routing(lambda _tried: offered[0] if offered else problem)
        async with workshop.working(asks(), says(workshop, [GOOD]), router=router):
            (run,) = await workshop.publish("x")

            async def often() -> bool:
                return len(router.calls) > QUICK.attempts + 1

            await eventually(often)
            why = msgspec.json.decode(await workshop.client.get(workshop.keys.waiting(run)), type=Waiting)
            assert why.error == problem.info
            assert why.effect.endswith("/judge")
            assert 0 < await workshop.client.ttl(workshop.keys.waiting(run)) <= asking.KEEP_REASON
            assert await records(workshop) == {}
            offered.append(SMALL)
            assert await outcome(workshop) == "7 1 10 5"

    @pytest.mark.parametrize("problem", [ABSENT, RESTING], ids=lambda problem: problem.code)
    async def test_it_ends_when_the_event_has_waited_long_enough_and_is_not_begun_anew(
        self, workshop: Workshop, problem: NoModelNow
    ) -> None:
        impatient = Terms(lease=TERMS.lease, grace=TERMS.grace, model_timeout=10, model_wait=0.4)
        began = datetime.now(UTC)
        async with workshop.working(asks(), router=Routing(lambda _tried: problem), terms=impatient):
            await workshop.publish("x")
            assert await outcome(workshop) == f"{problem.code} 0 0 0"
        assert 0.4 <= (datetime.now(UTC) - began).total_seconds() < 4
        assert await records(workshop) == {"judge": ("", problem.code)}

    async def test_a_question_may_have_less_patience_than_the_worker(self, workshop: Workshop) -> None:
        hasty = asks(replace(QUESTION, patience=0.4))
        async with workshop.working(hasty, router=Routing(lambda _tried: ABSENT)):
            await workshop.publish("x")
            assert await outcome(workshop) == f"{ABSENT.code} 0 0 0"

    async def test_a_later_try_waits_as_well_and_does_not_repeat_the_first(self, workshop: Workshop) -> None:
        offered: list[Route] = []

        def choose(tried: Sequence[Tried]) -> Route | Exception:
            return (offered[0] if offered else ABSENT) if tried else LARGE

        router = Routing(choose)
        stages = asks(), says(workshop, [AWAY], LARGE.stream), says(workshop, [GOOD])
        async with workshop.working(*stages, router=router):
            await workshop.publish("x")

            async def often() -> bool:
                return len(router.calls) > 5

            await eventually(often)
            offered.append(SMALL)
            assert await outcome(workshop) == "7 1 10 5"
        assert [tried for tried in router.calls if not tried] == [[]]


class TestVanishing:
    """Who was asked may be gone."""

    async def test_when_the_consumer_vanishes_another_back_end_answers_and_its_late_answer_changes_nothing(
        self, workshop: Workshop
    ) -> None:
        router = Routing(two)
        async with workshop.working(asks(), says(workshop, [GOOD]), router=router):
            (run,) = await workshop.publish("x")
            await eventually(lambda: workshop.entries(LARGE.stream, INFERENCE))
            router.gone.add(LARGE.stream)
            assert await outcome(workshop) == "7 1 10 5"
        before = await records(workshop)
        assert before == {"judge": ("large", "model.unreachable"), "judge.2": ("small", "")}
        async with workshop.working(says(workshop, lambda _event: '{"score": 1}', LARGE.stream)):

            async def taken() -> bool:
                (group,) = await workshop.client.xinfo_groups(workshop.keys.stream(INFERENCE, LARGE.stream))
                return not group["pending"] and not group["lag"]

            await eventually(taken)
        assert await records(workshop, run) == before

    async def test_one_that_was_only_away_between_two_looks_is_waited_for(self, workshop: Workshop) -> None:
        looks: list[Route] = []

        class Blinking(Routing):
            async def serves(self, route: Route) -> bool:
                looks.append(route)
                return len(looks) % 2 == 0

        async with workshop.working(asks(), router=Blinking(lambda _tried: SMALL)):
            await workshop.publish("x")

            async def often() -> bool:
                return len(looks) > 5

            await eventually(often)
            assert await records(workshop) == {}
            async with workshop.working(says(workshop, [GOOD])):
                assert await outcome(workshop) == "7 1 10 5"

    async def test_a_server_that_is_away_while_a_question_is_routed_or_awaited_costs_no_attempt(
        self, workshop: Workshop
    ) -> None:
        troubles = [Disconnected("It is away.")] * (QUICK.attempts + 2)

        class Shaky(Routing):
            async def serves(self, route: Route) -> bool:
                if troubles:
                    raise troubles.pop()
                return True

        def choose(_tried: Sequence[Tried]) -> Route | Exception:
            return troubles.pop() if len(troubles) % 2 else SMALL

        async with workshop.working(asks(), router=Shaky(choose)):
            await workshop.publish("x")

            async def past() -> bool:
                return not troubles

            await eventually(past)
            async with workshop.working(says(workshop, [GOOD])):
                assert await outcome(workshop) == "7 1 10 5"
        assert len(await workshop.entries("infer.local", INFERENCE)) == 1


class TestCrash:
    """The asking worker dies between putting a question and its answer."""

    HASTY = Terms(lease=TERMS.lease, grace=0.0, model_timeout=2.0)

    async def test_a_question_that_fell_because_nobody_waited_any_more_is_put_again(self, workshop: Workshop) -> None:
        async with workshop.working(asks(), router=Routing(lambda _tried: SMALL), terms=self.HASTY):
            await workshop.publish("x")
            await eventually(lambda: workshop.entries("infer.local", INFERENCE))

        async def fallen() -> bool:
            (entry,) = await workshop.entries("infer.local", INFERENCE)
            body: Any = entry.envelope and entry.envelope.body
            return body.deadline < datetime.now(UTC)

        await eventually(fallen)
        stages = asks(), says(workshop, [GOOD])
        async with workshop.working(*stages, router=Routing(lambda _tried: SMALL)):
            assert await outcome(workshop) == "7 1 10 5"
        assert len(await workshop.entries("infer.local", INFERENCE)) == 2

    async def test_who_takes_over_may_ask_elsewhere_and_one_answer_is_recorded(self, workshop: Workshop) -> None:
        async with workshop.working(asks(), router=Routing(lambda _tried: LARGE), terms=self.HASTY):
            await workshop.publish("x")
            await eventually(lambda: workshop.entries(LARGE.stream, INFERENCE))
        stages = asks(), says(workshop, [GOOD]), says(workshop, ['{"score": 1}'], LARGE.stream)
        async with workshop.working(*stages, router=Routing(lambda _tried: SMALL)):
            said = await outcome(workshop)
        ((_, model),) = [(effect, model) for effect, (model, _) in (await records(workshop)).items()]
        assert said == {"small": "7 1 10 5", "large": "1 1 10 5"}[model]


@pytest.mark.parametrize(
    "script", [[GOOD], [BAD, GOOD], [BAD, BAD, GOOD], [BAD, BAD, BAD, BAD], [AWAY, BAD, GOOD]], ids=str
)
async def test_a_finished_journal_is_replayed_without_a_router_and_without_models(
    workshop: Workshop, script: list[Said]
) -> None:
    async with workshop.working(asks(), says(workshop, script), router=Routing(lambda _tried: SMALL)):
        (run,) = await workshop.publish("x")
        said = await outcome(workshop)
    before = await records(workshop)
    (entry,) = await workshop.entries("intake")
    assert entry.envelope
    journal = Journal(workshop.client, workshop.keys)
    hints = Answers(workshop.client, journal, "nobody")
    asker = Asker(workshop.client, workshop.keys, journal, hints, NoModels(), 10, 10)
    answer, usage = await asker.ask(Asking(run, entry.envelope.id, "user"), "judge", QUESTION)
    told = answer.code if isinstance(answer, EffectFailed) else str(answer.score)
    assert said == f"{told} {usage.calls} {usage.tokens_in} {usage.tokens_out}"
    assert await records(workshop) == before
    await journal.close()
