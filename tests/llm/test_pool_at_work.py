"""Many questions at once: who is scanned, who gets a slot, what is warm, and that nothing is left over."""
# Who waits, and what was shut out, is nobody else's business:
# pyright: reportPrivateUsage=false

from collections.abc import Sequence
from random import Random

import anyio
import pytest

from llm import breaker as breakers
from llm import pool as pools
from llm.engine import Engine, Generation, OnText
from llm.mlx_batch import EngineDown
from llm.models import Model, Offer
from llm.pool import Pool
from llm.router import Needs
from llm.scripted import ScriptedEngine
from schemas.errors import ModelFailed, NoModelNow, VictoriaError
from schemas.inference import Answer, ChatMessage, Priority
from tests.llm.pools import ANY, AWAY, Gated, Scripted, asked, attended, look, saying, shut, states, until, waiting


@pytest.fixture
def _short_rests(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    monkeypatch.setattr(breakers, "REST", 0.05)
    monkeypatch.setattr(pools, "TRY_EVERY", 0.01)


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

    calm = False

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
        if not self.calm and self.dice.random() < 0.3:
            raise self.dice.choice(failures)
        return await ScriptedEngine(["x"]).generate(request, on_text)


@pytest.mark.usefixtures("_short_rests")
@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_every_question_ends_and_every_slot_is_free_again(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        monkeypatch.setattr(Moody, "calm", True)
        for site in pool._sites:
            site.rescan.set()
        await until(lambda: set(states(pool).values()) == {"closed"}, within=20)
    assert max(engine.most for engine in engines) <= 2
