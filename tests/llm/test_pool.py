"""A question gets its answer from whichever engine can give it; what fails is passed over, and found again."""
# Who waits, and what was shut out, is nobody else's business:
# pyright: reportPrivateUsage=false

from itertools import pairwise
from time import monotonic

import anyio
import pytest

from llm import breaker as breakers
from llm import pool as pools
from llm.engine import Engine, Generation, OnText
from llm.mlx_batch import EngineDown
from llm.pool import Pool
from llm.scripted import ScriptedEngine
from schemas.errors import CouldNotStart, ModelFailed, NoModelNow, VictoriaError
from schemas.inference import Answer
from tests.llm.pools import (
    ANY,
    AWAY,
    Down,
    Gated,
    Hanging,
    Saying,
    Scripted,
    asked,
    attended,
    look,
    saying,
    shut,
    states,
    until,
)


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
            assert monotonic() - began < 5.0

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
        with anyio.fail_after(5):
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
