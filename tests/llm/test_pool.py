"""A question gets its answer from whichever engine can give it; what fails is passed over, and found again."""
# Who waits, and what was shut out, is nobody else's business:
# pyright: reportPrivateUsage=false

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from llm import breaker as breakers
from llm import pool as pools
from llm.engine import Engine, Generation, OnText
from llm.mlx_batch import EngineDown
from llm.models import Model, Offer
from llm.pool import Pool
from llm.router import Needs
from llm.scripted import Reply, ScriptedEngine
from schemas.errors import CouldNotStart, ModelFailed, NoModelNow, VictoriaError
from schemas.inference import Answer, ChatMessage, Priority
from tests.workshop import eventually

AWAY = ModelFailed("model.unreachable", "It is away.", "Start it.")
ANY = Needs()


def asked(text: str = "Hello?", timeout: float = 5.0) -> Generation:
    return Generation((ChatMessage("user", text),), 20, timeout)


class Scripted:
    """A fake source for tests: it has the models and engines that the test gives it.

    `models` is what it says it has, or the error it says instead. `engine` makes an engine for a model, or raises.
    """

    def __init__(
        self, node: str, engine: Callable[[str], Engine], *models: str, slots: int = 2, context: int = 4096
    ) -> None:
        self.node, self.slots, self.context = node, slots, context
        self.has: list[str] | Exception = list(models) or ["m"]
        self.engine, self.opened, self.scans, self.closed = engine, list[str](), 0, False

    async def models(self) -> Sequence[Model]:
        self.scans += 1
        await anyio.lowlevel.checkpoint()
        if isinstance(self.has, Exception):
            raise self.has
        return [Model("ollama", self.node, name, 0, self.context) for name in self.has]

    async def open(self, model: str) -> Engine:
        self.opened.append(model)
        await anyio.lowlevel.checkpoint()
        return self.engine(model)

    async def close(self) -> None:
        self.closed = True


class Saying(Scripted):
    """A source with one engine, `speaker`, that says `replies`, and its node's name for ever after."""

    def __init__(self, node: str, replies: Sequence[Reply], models: Sequence[str], slots: int, delay: float) -> None:
        super().__init__(node, lambda _model: self.speaker, *models, slots=slots)
        left = list(replies)
        self.speaker = ScriptedEngine(lambda _request: left.pop(0) if left else node, slots=slots, delay=delay)

    async def open(self, model: str) -> Engine:
        self.speaker.closed = False
        return await super().open(model)


def saying(node: str, *replies: Reply, slots: int = 2, delay: float = 0.0, models: Sequence[str] = ("m",)) -> Saying:
    return Saying(node, replies, models, slots, delay)


class Hanging(ScriptedEngine):
    """Takes questions and answers none until `well`; each costs a time-out of its own, as an Ollama's limits do."""

    def __init__(self, own_limit: float) -> None:
        super().__init__(lambda _request: "awake")
        self.own_limit, self.well = own_limit, False

    async def generate(self, request: Generation, on_text: OnText | None = None) -> Answer:
        if not self.well:
            self.requests.append(request)
            await anyio.sleep(min(self.own_limit, request.timeout))
            raise ModelFailed("model.timeout", "No first word came.", "See what else it does.")
        return await super().generate(request, on_text)


class Down(ScriptedEngine):
    """Counts how often it is closed."""

    closes = 0

    async def close(self) -> None:
        self.closes += 1
        await super().close()


class Gated(ScriptedEngine):
    """Answers when the test lets it; knows how many it works on, and in which order they came."""

    def __init__(self, slots: int = 1) -> None:
        super().__init__([], slots=slots)
        self.gate, self.now, self.most, self.order = anyio.Event(), 0, 0, list[str]()

    async def generate(self, request: Generation, on_text: OnText | None = None) -> Answer:
        text = request.messages[-1].content
        self.order.append(text)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.gate.wait()
            await anyio.sleep(0.001)
        finally:
            self.now -= 1
        return await ScriptedEngine([text]).generate(request, on_text)


@asynccontextmanager
async def attended(*sources: Scripted, **more: Any) -> AsyncGenerator[Pool]:
    """Inside, a pool of these sources is attended to."""
    warm = more.pop("warm", ())
    made = Pool(sources, **more)
    async with anyio.create_task_group() as tasks:
        await tasks.start(made.attend, warm)
        yield made
        tasks.cancel_scope.cancel()
    await made.close()


def states(pool: Pool) -> dict[str, str]:
    return {offer.model.node: offer.state for offer in pool.offers()}


async def until(holds: Callable[[], object], within: float = 5.0) -> None:
    async def now() -> object:
        return holds()

    await eventually(now, within)


def look(pool: Pool) -> None:
    """Have the first source scanned now."""
    pool._sites[0].rescan.set()


def shut(pool: Pool, source: int) -> None:
    """Have a source's model m left alone."""
    pool._sites[source].places["m"].breaker.failed(AWAY.info, monotonic(), at_once=True)


def waiting(pool: Pool) -> int:
    """How many questions wait for a slot."""
    return len(pool._waiters)


@pytest.fixture
def _short_rests(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    monkeypatch.setattr(breakers, "REST", 0.05)
    monkeypatch.setattr(pools, "TRY_EVERY", 0.01)


class TestFailures:
    """What a failure means for the question, and for those after it."""

    @pytest.mark.parametrize(
        ("failure", "state"),
        [
            (AWAY, "open"),
            (ModelFailed("model.timeout", "Silence.", ""), "open"),
            (CouldNotStart("model.broken", "No model.", ""), "open"),
            (EngineDown("model.engine", "Down.", ""), "open"),
            (ModelFailed("model.engine", "A bad day.", ""), "closed"),
            (RuntimeError("a bug"), "closed"),
            (ModelFailed("model.busy", "Full.", ""), "closed"),
        ],
    )
    async def test_the_next_node_is_asked_and_what_certainly_failed_is_left_alone(
        self, failure: Exception, state: str
    ) -> None:
        first, second = saying("a", failure), saying("b")
        async with attended(first, second) as pool:
            answer = await pool.answer(asked(), ANY)
            assert answer.text == "b"
            assert states(pool) == {"a": state, "b": "closed"}

    @pytest.mark.parametrize("code", ["model.overflow", "model.cut", "model.refused", "model.of_tomorrow"])
    async def test_what_no_other_node_would_do_better_is_the_answer(self, code: str) -> None:
        second = saying("b")
        async with attended(saying("a", ModelFailed(code, "No.", "")), second) as pool:
            with pytest.raises(ModelFailed) as caught:
                await pool.answer(asked(), ANY)
            assert caught.value.code == code
            assert states(pool) == {"a": "closed", "b": "closed"}
        assert not second.opened

    async def test_what_a_source_fails_with_unforeseen_when_it_opens_is_a_typed_failure(self) -> None:
        def broken(_model: str) -> Engine:
            raise OSError(28, "No space left on device")

        async with attended(Scripted("a", broken), saying("b")) as pool:
            assert (await pool.answer(asked(), ANY)).text == "b"
        async with attended(Scripted("a", broken)) as pool:
            with pytest.raises(ModelFailed, match="No space left"):
                await pool.answer(asked(), ANY)

    async def test_where_all_fail_the_last_ones_failure_is_told_and_nobody_is_asked_twice(self) -> None:
        first, second = saying("a", AWAY), saying("b", ModelFailed("model.engine", "A bad day.", ""))
        async with attended(first, second) as pool:
            with pytest.raises(ModelFailed, match="A bad day"):
                await pool.answer(asked(), ANY)

    async def test_a_question_for_a_model_that_all_have_left_alone_waits(self) -> None:
        async with attended(saying("a", AWAY)) as pool:
            with pytest.raises(ModelFailed):
                await pool.answer(asked(), ANY)
            with pytest.raises(NoModelNow) as caught:
                await pool.answer(asked(), ANY)
            assert caught.value.code == "model.resting"

    async def test_a_missing_model_is_asked_elsewhere_and_its_node_looked_at_again(self) -> None:
        first = saying("a", ModelFailed("model.missing", "No such model.", ""))
        async with attended(first, saying("b")) as pool:
            scans = first.scans
            first.has = []
            assert (await pool.answer(asked(), ANY)).text == "b"
            await until(lambda: first.scans > scans)
            assert [offer.model.node for offer in pool.offers()] == ["b"]
            assert first.speaker.closed

    async def test_an_engine_that_went_down_is_closed_once_and_opened_again(self) -> None:
        made: list[Down] = []

        def engine(_model: str) -> Engine:
            down = EngineDown("model.engine", "It broke down.", "")
            made.append(Down([down] * 3 if not made else ["up"] * 9, slots=3, delay=0.01))
            return made[-1]

        async def ask() -> None:
            try:
                await pool.answer(asked(), ANY)
            except VictoriaError as problem:
                failed.append(problem)

        failed: list[VictoriaError] = []
        async with attended(Scripted("a", engine, slots=3)) as pool:
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(ask)
            assert all(problem.retryable for problem in failed)
            assert len(failed) == 3
            assert made[0].closes == 1
            await until(lambda: states(pool) == {"a": "closed"})
            assert (await pool.answer(asked(), ANY)).text == "up"
            assert len(made) == 2

    async def test_who_hears_the_text_is_told_when_a_second_engine_begins(self) -> None:
        class Stops(ScriptedEngine):
            async def generate(self, request: Generation, on_text: OnText | None = None) -> Answer:
                if on_text:
                    on_text("half an ans")
                raise AWAY

        heard: list[str] = []

        def hear() -> OnText:
            heard.append("|")
            return heard.append

        async with attended(Scripted("a", lambda _model: Stops([])), saying("b", "a whole answer")) as pool:
            await pool.answer(asked(), ANY, hear=hear)
        assert "".join(heard) == "|half an ans|a whole answer"


class TestTime:
    """Nobody waits longer than they said."""

    async def test_the_next_node_gets_the_time_that_is_left(self) -> None:
        last = ScriptedEngine(["late"])
        async with attended(Scripted("a", lambda _m: Hanging(0.3)), Scripted("b", lambda _m: last)) as pool:
            await pool.answer(asked(timeout=2.0), ANY)
        assert 1.0 < last.requests[0].timeout < 1.75

    async def test_loading_a_model_counts_too(self) -> None:
        class Slow(Scripted):
            async def open(self, model: str) -> Engine:
                await anyio.sleep(0.3)
                return await super().open(model)

        engine = ScriptedEngine(["x"])
        async with attended(Slow("a", lambda _m: engine)) as pool:
            await pool.answer(asked(timeout=2.0), ANY)
        assert engine.requests[0].timeout < 1.75

    async def test_a_model_that_is_not_loaded_in_time_is_a_typed_failure(self) -> None:
        class Never(Scripted):
            async def open(self, model: str) -> Engine:
                await anyio.sleep_forever()
                raise AssertionError

        async with attended(Never("a", lambda _m: ScriptedEngine([]))) as pool:
            began = monotonic()
            with pytest.raises(ModelFailed) as caught:
                await pool.answer(asked(timeout=0.2), ANY)
            assert caught.value.code == "model.timeout"
            assert monotonic() - began < 1.0

    async def test_a_slot_that_does_not_become_free_in_time_is_a_typed_failure(self) -> None:
        async with attended(Scripted("a", lambda _m: Gated(), slots=1)) as pool:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(pool.answer, asked(), ANY)
                await until(lambda: pool.offers()[0].in_flight)
                with pytest.raises(ModelFailed) as caught:
                    await pool.answer(asked(timeout=0.1), ANY)
                assert caught.value.code == "model.timeout"
                tasks.cancel_scope.cancel()
            assert pool.offers()[0].in_flight == 0

    async def test_who_does_not_wait_for_a_models_loading_does_not_stop_it(self) -> None:
        class Slow(Scripted):
            async def open(self, model: str) -> Engine:
                engine = await super().open(model)
                await anyio.sleep(0.3)
                return engine

        source = Slow("a", lambda _m: ScriptedEngine(lambda _request: "loaded"))
        async with attended(source) as pool:
            for _ in range(2):
                with pytest.raises(ModelFailed):
                    await pool.answer(asked(timeout=0.1), ANY)
            assert (await pool.answer(asked(), ANY)).text == "loaded"
        assert source.opened == ["m"]

    async def test_closing_stops_a_loading(self) -> None:
        class Never(Scripted):
            async def open(self, model: str) -> Engine:
                await anyio.sleep_forever()
                raise AssertionError

        pool = Pool([Never("a", lambda _m: ScriptedEngine([]))])
        with pytest.raises(ModelFailed):
            await pool.answer(asked(timeout=0.05), ANY)
        with anyio.fail_after(1):
            await pool.close()

    async def test_impatience_is_no_reason_to_leave_a_node_alone(self) -> None:
        async with attended(saying("a", delay=0.2)) as pool:
            with pytest.raises(ModelFailed):
                await pool.answer(asked(timeout=0.05), ANY)
            assert states(pool) == {"a": "closed"}


@pytest.mark.usefixtures("_short_rests")
class TestRecovery:
    """What failed is found again by the pool itself."""

    async def test_a_hanging_node_costs_one_time_out_and_its_recovery_is_noticed_without_a_question(self) -> None:
        hanging = Hanging(0.2)
        async with attended(Scripted("a", lambda _m: hanging), saying("b")) as pool:
            began = monotonic()
            assert (await pool.answer(asked("first"), ANY)).text == "b"
            assert monotonic() - began >= 0.2
            for number in range(20):
                assert (await pool.answer(asked(f"later {number}"), ANY)).text == "b"
            questions = [r for r in hanging.requests if r.max_tokens > 1]
            assert [r.messages[-1].content for r in questions] == ["first"]
            hanging.well = True
            await until(lambda: states(pool)["a"] == "closed")
            assert (await pool.answer(asked(), ANY)).text == "awake"

    async def test_a_trial_that_says_nothing_in_time_leaves_it_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pools, "TRIAL_TIMEOUT", 0.1)
        hanging = Hanging(60)
        async with attended(Scripted("a", lambda _m: hanging), saying("b")) as pool:
            shut(pool, 0)
            await until(lambda: len(hanging.requests) > 1)
            assert states(pool)["a"] != "closed"
            assert pool.offers()[0].error

    async def test_a_model_that_takes_longer_to_load_than_to_say_a_word_comes_back(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pools, "TRIAL_TIMEOUT", 0.1)

        class Slow(Saying):
            async def open(self, model: str) -> Engine:
                await anyio.sleep(0.2)
                return await super().open(model)

        down = EngineDown("model.engine", "It broke down.", "")
        async with attended(Slow("a", [down], ["m"], 2, 0.0)) as pool:
            with pytest.raises(EngineDown):
                await pool.answer(asked(), ANY)
            await until(lambda: states(pool) == {"a": "closed"})

    async def test_a_trial_in_vain_does_not_break_off_a_question_that_does_well(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pools, "TRIAL_TIMEOUT", 0.05)
        engine = Gated(slots=2)
        said: list[str] = []

        async def ask() -> None:
            said.append((await pool.answer(asked("long"), ANY)).text)

        async with attended(Scripted("a", lambda _m: engine)) as pool, anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await until(lambda: engine.now)
            shut(pool, 0)
            await until(lambda: engine.order.count("Hi") > 1)
            assert not engine.closed
            engine.gate.set()
            await until(lambda: said == ["long"])

    async def test_one_that_thinks_before_its_first_word_is_back_too(self) -> None:
        cut = ModelFailed("model.cut", "It had not finished thinking after 1 token.", "")
        async with attended(saying("a", AWAY, cut)) as pool:
            with pytest.raises(ModelFailed):
                await pool.answer(asked(), ANY)
            await until(lambda: states(pool) == {"a": "closed"})

    async def test_each_trial_in_vain_is_followed_by_a_longer_rest(self) -> None:
        engines: list[float] = []

        def broken(_model: str) -> Engine:
            engines.append(monotonic())
            return ScriptedEngine([AWAY])

        async with attended(Scripted("a", broken)) as pool:
            with pytest.raises(ModelFailed):
                await pool.answer(asked(), ANY)
            await until(lambda: len(engines) >= 4)
        first, second, third = (later - earlier for earlier, later in pairwise(engines[:4]))
        assert first >= 0.05
        assert second >= 0.1
        assert third >= 0.2

    @pytest.mark.parametrize("where", ["scan", "open", "generate"])
    async def test_whatever_a_back_end_does_the_pool_lives_on(self, where: str) -> None:
        source = saying("a", AWAY, *([RuntimeError("a bug")] * 3 if where == "generate" else ()))
        good = source.engine
        async with attended(source) as pool:
            with pytest.raises(ModelFailed):
                await pool.answer(asked(), ANY)
            if where == "scan":
                source.has = RuntimeError("a bug")
                look(pool)
                await until(pool.faults)
                source.has = ["m"]
                look(pool)
            if where == "open":

                def broken(_model: str) -> Engine:
                    raise RuntimeError("a bug")

                source.engine = broken
                opened = len(source.opened)
                await pool._sites[0].places["m"].discard(source.speaker)
                await until(lambda: len(source.opened) > opened)
                source.engine = good
            await until(lambda: states(pool) == {"a": "closed"})

    async def test_a_trial_that_was_broken_off_is_done_again_by_who_attends_next(self) -> None:
        hanging = Hanging(60)
        source = Scripted("a", lambda _m: hanging)
        pool = Pool([source])
        async with anyio.create_task_group() as tasks:
            await tasks.start(pool.attend)
            shut(pool, 0)
            await until(lambda: states(pool) == {"a": "half-open"})
            tasks.cancel_scope.cancel()
        hanging.well = True
        async with anyio.create_task_group() as tasks:
            await tasks.start(pool.attend)
            await until(lambda: states(pool) == {"a": "closed"})
            tasks.cancel_scope.cancel()


class TestScans:
    """What is known of a source."""

    async def test_models_of_a_source_that_is_away_are_still_known_and_rest(self) -> None:
        source = saying("a", models=("m", "n"))
        async with attended(source, saying("b")) as pool:
            source.has = AWAY
            look(pool)
            await until(pool.faults)
            assert [(o.model.name, o.state, o.error) for o in pool.offers()[:2]] == [
                ("m", "open", AWAY.info),
                ("n", "open", AWAY.info),
            ]
            (fault,) = pool.faults()
            assert (fault.node, fault.error) == ("a", AWAY.info)
            assert (await pool.answer(asked(), ANY)).text == "b"
            source.has = ["m", "n"]
            look(pool)
            await until(lambda: not pool.faults())
            await until(lambda: states(pool) == {"a": "closed", "b": "closed"})

    async def test_a_slow_source_does_not_keep_the_others_from_beginning(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Slow(Scripted):
            async def models(self) -> Sequence[Model]:
                await anyio.sleep_forever()
                return []

        monkeypatch.setattr(pools, "FIRST_SCAN", 0.1)
        async with attended(Slow("a", lambda _m: ScriptedEngine([])), saying("b")) as pool:
            assert (await pool.answer(asked(), ANY)).text == "b"

    async def test_a_model_that_vanished_is_dropped_and_a_new_one_offered(self) -> None:
        source = saying("a", models=("old", "both"))
        async with attended(source) as pool:
            await pool.answer(asked(), Needs(model="old"))
            source.has = ["both", "new"]
            look(pool)
            await until(lambda: {o.model.name for o in pool.offers()} == {"both", "new"})
            with pytest.raises(NoModelNow) as caught:
                await pool.answer(asked(), Needs(model="old"))
            assert caught.value.code == "model.absent"

    async def test_one_that_vanishes_while_it_answers_or_is_opened_leaves_nothing_open(self) -> None:
        may_open, opening = anyio.Event(), anyio.Event()
        engine = ScriptedEngine(["x"])

        class Slow(Scripted):
            async def open(self, model: str) -> Engine:
                opening.set()
                await may_open.wait()
                return await super().open(model)

        source = Slow("a", lambda _m: engine)
        said: list[VictoriaError | str] = []

        async def ask() -> None:
            try:
                said.append((await pool.answer(asked(), ANY)).text)
            except VictoriaError as problem:
                said.append(problem)

        async with attended(source) as pool, anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await opening.wait()
            source.has = []
            look(pool)
            await until(lambda: not pool.offers())
            may_open.set()
            await until(lambda: said and engine.closed)
            assert pool._sites[0].in_flight == 0

    async def test_a_model_that_goes_missing_during_a_scan_leads_to_another_scan(self) -> None:
        source = saying("a")
        async with attended(source) as pool:
            inside = anyio.Event()
            models, go = source.models, anyio.Event()

            async def slowly() -> Sequence[Model]:
                found = await models()
                inside.set()
                await go.wait()
                return found

            source.models = slowly  # type: ignore[method-assign]
            look(pool)
            await inside.wait()
            source.has = []
            look(pool)
            go.set()
            await until(lambda: not pool.offers())

    async def test_without_anybody_attending_the_first_question_looks_around(self) -> None:
        source = saying("a")
        pool = Pool([source])
        assert (await pool.answer(asked(), ANY)).text == "a"
        assert (await pool.answer(asked(), ANY)).text == "a"
        assert source.scans == 1
        await pool.close()
        assert source.closed


class TestSlots:
    """Several questions at a time."""

    async def test_never_more_at_once_than_a_source_has_slots_whatever_its_models(self) -> None:
        engine = Gated(slots=9)
        engine.gate.set()
        async with attended(Scripted("a", lambda _m: engine, "m", "n", slots=3)) as pool:
            async with anyio.create_task_group() as tasks:
                for number in range(30):
                    needs = Needs(model="mn"[number % 2])
                    priority: Priority = "background" if number % 3 else "interactive"
                    tasks.start_soon(pool.answer, asked(str(number)), needs, priority)
            assert pool.offers()[0].in_flight == 0
        assert engine.most == 3
        assert len(engine.order) == 30

    async def test_the_questions_spread_over_the_sources(self) -> None:
        first, second = Gated(slots=2), Gated(slots=2)
        sources = Scripted("a", lambda _m: first), Scripted("b", lambda _m: second)
        async with attended(*sources) as pool, anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(pool.answer, asked(str(number)), ANY)
            await until(lambda: first.now == second.now == 2)
            first.gate.set()
            second.gate.set()

    async def test_interactive_questions_go_before_background_ones_that_wait_longer(self) -> None:
        engine = Gated()
        async with attended(Scripted("a", lambda _m: engine, slots=1)) as pool, anyio.create_task_group() as tasks:
            tasks.start_soon(pool.answer, asked("first"), ANY, "background")
            await until(lambda: engine.now)
            for number in range(2):
                tasks.start_soon(pool.answer, asked(f"background {number}"), ANY, "background")
            await until(lambda: waiting(pool) == 2)
            for number in range(2):
                tasks.start_soon(pool.answer, asked(f"interactive {number}"), ANY, "interactive")
            await until(lambda: waiting(pool) == 4)
            engine.gate.set()
        assert engine.order == ["first", "interactive 0", "interactive 1", "background 0", "background 1"]

    async def test_a_slot_that_an_interactive_question_leaves_is_kept_for_the_next_one_a_moment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pools, "YIELD", 0.2)
        engine = Gated()
        async with attended(Scripted("a", lambda _m: engine, slots=1)) as pool, anyio.create_task_group() as tasks:

            async def ask_twice() -> None:
                for number in range(2):
                    await pool.answer(asked(f"interactive {number}"), ANY)
                    await anyio.sleep(0.05)

            tasks.start_soon(ask_twice)
            await until(lambda: engine.now)
            tasks.start_soon(pool.answer, asked("background"), ANY, "background")
            await until(lambda: waiting(pool) == 1)
            engine.gate.set()
        assert engine.order == ["interactive 0", "interactive 1", "background"]

    async def test_who_wants_another_source_waits_for_nobody(self) -> None:
        engines = {"m": Gated(), "n": Gated()}
        sources = [Scripted(name, engines.__getitem__, name, slots=1) for name in engines]
        async with attended(*sources) as pool, anyio.create_task_group() as tasks:
            tasks.start_soon(pool.answer, asked("1"), Needs(model="m"))
            await until(lambda: engines["m"].now)
            tasks.start_soon(pool.answer, asked("2"), Needs(model="m"))
            await until(lambda: waiting(pool) == 1)
            tasks.start_soon(pool.answer, asked("3"), Needs(model="n"), "background")
            await until(lambda: engines["n"].now)
            for engine in engines.values():
                engine.gate.set()

    async def test_who_waits_behind_one_that_no_longer_wants_the_source_goes_on_at_once(self) -> None:
        """Where the first in line loses interest, the free slot must not stay free until something else happens."""
        engines = {"a": Gated(), "b": Gated()}
        a = Scripted("a", lambda _m: engines["a"], "m", slots=1)
        b = Scripted("b", lambda _m: engines["b"], "m", "n", slots=1)
        async with attended(a, b) as pool, anyio.create_task_group() as tasks:
            tasks.start_soon(pool.answer, asked("on a"), Needs(model="m"))
            await until(lambda: engines["a"].now)
            tasks.start_soon(pool.answer, asked("on b"), Needs(model="n"))
            await until(lambda: engines["b"].now)
            tasks.start_soon(pool.answer, asked("behind"), Needs(model="n"), "background")
            await until(lambda: waiting(pool) == 1)
            tasks.start_soon(pool.answer, asked("in front"), Needs(model="m"))
            await until(lambda: waiting(pool) == 2)
            # m at b is shut out in the moment in which b's slot becomes free
            shut(pool, 1)
            engines["b"].gate.set()
            await until(lambda: "behind" in engines["b"].order, within=breakers.REST / 2)
            engines["a"].gate.set()

    @pytest.mark.parametrize("which", ["waiting", "running"])
    async def test_a_cancelled_question_leaves_its_slot_at_once(self, which: str) -> None:
        engine = Gated()
        async with attended(Scripted("a", lambda _m: engine, slots=1)) as pool, anyio.create_task_group() as tasks:
            scopes = {name: anyio.CancelScope() for name in ("running", "waiting")}

            async def ask(name: str) -> None:
                with scopes[name]:
                    await pool.answer(asked(name), ANY)

            tasks.start_soon(ask, "running")
            await until(lambda: engine.now)
            tasks.start_soon(ask, "waiting")
            await until(lambda: waiting(pool) == 1)
            tasks.start_soon(pool.answer, asked("last"), ANY)
            await until(lambda: waiting(pool) == 2)
            scopes[which].cancel()
            await until(lambda: waiting(pool) == 1)
            assert pool.offers()[0].in_flight == 1
            engine.gate.set()
        assert "last" in engine.order
        assert pool.offers()[0].in_flight == 0


class TestWarmth:
    """Prompts are read ahead while nobody asks."""

    PROMPT = Generation((ChatMessage("system", "Rules."),), 1, 600)

    async def test_a_question_interrupts_and_it_goes_on_afterwards(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pools, "TRY_EVERY", 0.01)
        seen: list[str] = []
        slow, answering = anyio.Event(), anyio.Event()

        class Patient(ScriptedEngine):
            async def generate(self, request: Generation, on_text: OnText | None = None) -> Answer:
                seen.append(request.messages[0].content)
                await (slow if request.max_tokens == 1 else answering).wait()
                return await super().generate(request, on_text)

        engine = Patient(lambda _request: "x", slots=1)
        async with attended(Scripted("", lambda _m: engine, slots=1), warm=[self.PROMPT]) as pool:
            await until(lambda: seen == ["Rules."])
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(pool.answer, asked(), ANY)
                await until(lambda: len(seen) == 2)
                await anyio.sleep(0.05)  # in which nothing else is read
                assert len(seen) == 2
                answering.set()
            slow.set()
            await until(lambda: len(seen) == 3)
            await anyio.sleep(0.05)
        assert seen == ["Rules.", "Hello?", "Rules."]

    async def test_a_question_does_not_break_off_the_loading_that_it_needs_itself(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pools, "TRY_EVERY", 0.01)
        opening, go = anyio.Event(), anyio.Event()

        class Slow(Scripted):
            async def open(self, model: str) -> Engine:
                opening.set()
                engine = await super().open(model)
                await go.wait()
                return engine

        source = Slow("", lambda _m: ScriptedEngine(lambda _r: "x"))
        async with attended(source, warm=[self.PROMPT]) as pool, anyio.create_task_group() as tasks:
            await opening.wait()
            tasks.start_soon(pool.answer, asked(), ANY)
            await until(lambda: pool.offers()[0].in_flight)
            go.set()
        assert source.opened == ["m"]

    async def test_the_model_that_questions_will_go_to_is_the_one_that_reads(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pools, "TRY_EVERY", 0.01)
        source = saying("a", models=("other", "wished"))
        async with attended(source, priority=["wished"], warm=[self.PROMPT]):
            await until(lambda: source.opened)
        assert source.opened == ["wished"]

    @pytest.mark.parametrize("failure", [AWAY, RuntimeError("a bug")])
    async def test_what_goes_wrong_with_it_harms_nothing(
        self, failure: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pools, "TRY_EVERY", 0.01)
        source = saying("a", failure)
        async with attended(source, warm=[self.PROMPT]) as pool:
            await until(lambda: len(source.opened) == 1)
            assert (await pool.answer(asked(), ANY)).text == "a"


async def test_a_node_that_read_a_prefix_is_asked_again_and_not_for_ever_remembered() -> None:
    async with attended(saying("a"), saying("b")) as pool:
        for number in range(pools.PREFIXES + 10):
            await pool.answer(asked(), Needs(prefix=str(number)))
        pool._prefixes["p"] = "b"
        assert (await pool.answer(asked(), Needs(prefix="p"))).text == "b"
        assert len(pool._prefixes) == pools.PREFIXES


async def test_offers_say_what_is_in_flight_and_changes_are_told() -> None:
    engine = Gated()
    async with attended(Scripted("a", lambda _m: engine, slots=1)) as pool, anyio.create_task_group() as tasks:
        pool.changed.clear()
        tasks.start_soon(pool.answer, asked(), ANY)
        await pool.changed.wait()
        assert pool.offers() == (Offer(Model("ollama", "a", "m", 0, 4096), 1, in_flight=1),)
        engine.gate.set()
        await until(lambda: pool.changed.is_set() and pool.offers()[0].in_flight == 0)


async def test_closing_it_closes_what_it_opened() -> None:
    source = saying("a")
    async with attended(source) as pool:
        await pool.answer(asked(), ANY)
    assert source.closed
    assert source.speaker.closed


class Moody(ScriptedEngine):
    """Answers, fails in all ways there are, or takes its time, by its own dice; never more than `slots` at once."""

    def __init__(self, dice: Random, slots: int) -> None:
        super().__init__([], slots=slots)
        self.dice, self.now, self.most = dice, 0, 0

    async def generate(self, request: Generation, on_text: OnText | None = None) -> Answer:
        questions = int(request.max_tokens > 1)  # a trial is none
        self.now += questions
        self.most = max(self.most, self.now)
        try:
            await anyio.sleep(self.dice.random() * 0.01)
        finally:
            self.now -= questions
        down = EngineDown("model.engine", "It broke down.", "")
        failures = [AWAY, down, RuntimeError("a bug"), ModelFailed("model.busy", "Full.", "")]
        if self.dice.random() < 0.3:
            raise self.dice.choice(failures)
        return await ScriptedEngine(["x"]).generate(request, on_text)


@pytest.mark.usefixtures("_short_rests")
@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_every_question_ends_and_every_slot_is_free_again(seed: int) -> None:
    dice = Random(seed)
    engines: list[Moody] = []

    def engine(_model: str) -> Engine:
        engines.append(Moody(dice, 2))
        return engines[-1]

    sources = [Scripted(name, engine, "m", "n") for name in "abc"]
    ends: list[str] = []

    async def ask(number: int) -> None:
        priority: Priority = dice.choice(["interactive", "background"])
        needs = Needs(model=dice.choice(["", "m", "n"]))
        with anyio.move_on_after(dice.choice([0.01, 5.0])):
            await anyio.sleep(dice.random() * 0.3)
            try:
                await pool.answer(asked(str(number), timeout=dice.choice([0.02, 2.0])), needs, priority)
            except VictoriaError as problem:
                ends.append(problem.code)
            else:
                ends.append("answered")

    async def shake() -> None:
        for _ in range(20):
            source = dice.choice(sources)
            source.has = dice.choice([["m"], ["m", "n"], [], AWAY, RuntimeError("a bug")])
            dice.choice(pool._sites).rescan.set()
            await anyio.sleep(0.02)
        for source in sources:
            source.has = ["m", "n"]

    async with attended(*sources) as pool:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(shake)
                for number in range(150):
                    tasks.start_soon(ask, number)
        assert waiting(pool) == 0
        assert [site.in_flight for site in pool._sites] == [0, 0, 0]
        assert "answered" in ends
        for site in pool._sites:
            site.rescan.set()
        await until(lambda: set(states(pool).values()) == {"closed"}, within=20)
    assert max(engine.most for engine in engines) <= 2
