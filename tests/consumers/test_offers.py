"""Inference consumers announce what they offer; questions go to the best of it, as long as it holds."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import msgspec
import pytest
from redis.exceptions import ConnectionError as Disconnected

from consumers import offers
from consumers.offers import Announcement, Board, OfferRouter, backend_of, stream_of
from llm.models import BACKENDS, Backend, Fault, Model, Offer, Wish
from schemas.advice import INVALID, NO_OTHER, Tried
from schemas.errors import ErrorInfo, ModelFailed, NoModelNow
from schemas.inference import PRIORITIES, Priority, Question
from streams.asking import Route
from tests.workshop import Workshop, eventually

QUESTION = Question(system="Judge.", user="<text>it works</text>", answer=str)
AWAY = ErrorInfo("model.unreachable", "It is away.")


def offer(engine: str, name: str, size: int = 0, **more: Any) -> Offer:
    return Offer(Model(engine, "", name, size, 4096), 2, **more)


def said(consumer: str, engine: Backend, *offered: Offer, faults: Sequence[Fault] = ()) -> Announcement:
    return Announcement(consumer, engine, offered, tuple(faults))


LLAMA = offer("ollama", "llama3.3:70b", 70)
BIG = offer("mlx", "Qwen3-32B-4bit", 32)
SMOL = offer("local", "SmolLM2-135M-Instruct", 1)


@pytest.fixture
def board(workshop: Workshop) -> Board:
    return Board(workshop.client, workshop.keys)


@pytest.fixture
async def all_three(board: Board) -> Board:
    for consumer, one in (("gpu", LLAMA), ("mac", BIG), ("cpu", SMOL)):
        engine = backend_of(f"infer.{one.model.engine}")
        assert engine
        await board.announce(said(consumer, engine, one), 30)
    return board


def names(found: Sequence[Offer]) -> set[str]:
    return {each.model.name for each in found}


def now(holds: Callable[[], Awaitable[object]], wanted: object) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return await holds() == wanted

    return check


@pytest.mark.parametrize("engine", BACKENDS)
@pytest.mark.parametrize("priority", PRIORITIES)
def test_a_streams_name_tells_its_back_end(engine: Backend, priority: Priority) -> None:
    assert backend_of(stream_of(engine, priority)) == engine


@pytest.mark.parametrize("stage", ["understand", "infer", "infer.", "infer.gpt", "local", ""])
def test_other_stages_have_no_back_end(stage: str) -> None:
    assert backend_of(stage) is None


async def test_several_consumers_announce_side_by_side_and_each_its_back_ends(board: Board) -> None:
    fault = Fault("gpu-2:11434", AWAY)
    said_all = [
        said("one", "ollama", LLAMA, faults=[fault]),
        said("one", "local", SMOL),
        said("two", "ollama", LLAMA),
    ]
    for each in said_all:
        await board.announce(each, 30)
    found = await board.announcements(fresh=True)
    assert sorted(found, key=lambda a: (a.consumer, a.engine != "ollama")) == said_all
    assert len(await board.offers()) == 3


async def test_the_latest_word_of_a_consumer_holds(board: Board) -> None:
    await board.announce(said("one", "local", SMOL), 30)
    busy = offer("local", "SmolLM2-135M-Instruct", 1, in_flight=2, state="open", error=AWAY)
    await board.announce(said("one", "local", busy), 30)
    assert await board.offers(fresh=True) == [busy]


async def test_what_is_withdrawn_is_gone_at_once_and_what_others_said_stays(board: Board) -> None:
    for consumer in ("one", "two"):
        await board.announce(said(consumer, "local", SMOL), 30)
    await board.announce(said("one", "local"), 0)
    assert [a.consumer for a in await board.announcements(fresh=True)] == ["two"]


async def test_an_announcement_that_is_not_repeated_expires_and_leaves_nothing(
    workshop: Workshop, board: Board
) -> None:
    await board.announce(said("one", "local", SMOL), 0.2)
    assert names(await board.offers(fresh=True)) == {SMOL.model.name}

    async def found() -> set[str]:
        return names(await board.offers(fresh=True))

    await eventually(now(found, set[str]()))

    async def there() -> int:
        return await workshop.client.exists(workshop.keys.offers())

    await eventually(now(there, 0))


async def test_one_that_holds_long_outlives_one_that_is_repeated_often(workshop: Workshop, board: Board) -> None:
    await board.announce(said("patient", "ollama", LLAMA), 30)
    await board.announce(said("hasty", "local", SMOL), 0.1)

    async def found() -> set[str]:
        return names(await board.offers(fresh=True))

    await eventually(now(found, {LLAMA.model.name}))
    await anyio.sleep(0.15)
    assert await found() == {LLAMA.model.name}
    await board.announce(said("another", "mlx", BIG), 30)  # whoever speaks clears away what holds no longer
    assert set(await workshop.client.hkeys(workshop.keys.offers())) == {b"patient/ollama", b"another/mlx"}


async def test_a_worker_of_this_machine_that_was_killed_offers_nothing_any_more(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    await board.announce(said("one", "local", SMOL), 30)
    monkeypatch.setattr(offers, "is_gone", "one".__eq__)
    assert await board.offers(fresh=True) == []


GARBAGE = [
    b"",
    b":",
    b"what?",
    b"99999999999999:",
    b"99999999999999:{}",
    b"99999999999999:[]",
    b'99999999999999:{"consumer":"x","engine":"of tomorrow"}',
    b'99999999999999:{"consumer":"\xff","engine":"local"}',
    b'99999999999999:{"consumer":"x","engine":"local","offers":' + b"[" * 5000,
    b'99999999999999:{"later":' + b"[" * 5000 + b"]" * 5000 + b',"consumer":"x","engine":"local"}',
    b"9" * 5000 + b':{"consumer":"x","engine":"local"}',
    b'-1:{"consumer":"x","engine":"local"}',
    b'1e99:{"consumer":"x","engine":"local"}',
    b"\xff\xfe",
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: repr(garbage[:40]))
async def test_garbage_among_the_announcements_harms_nobody(workshop: Workshop, board: Board, garbage: bytes) -> None:
    await workshop.client.hset(workshop.keys.offers(), "somebody", garbage)
    await board.announce(said("one", "local", SMOL), 30)
    assert await board.offers(fresh=True) == [SMOL]


async def test_what_was_read_a_moment_ago_is_not_read_again_and_many_readers_read_once(
    board: Board, workshop: Workshop
) -> None:
    async def reads() -> int:
        statistics: Any = await workshop.client.info("commandstats")
        return statistics.get("cmdstat_hgetall", {}).get("calls", 0)

    before = await reads()
    for _ in range(5):
        await board.offers()
    assert await reads() - before == 1
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(lambda: board.announcements(fresh=True))
    assert await reads() - before <= 3


async def test_trouble_with_the_server_is_told_to_each_reader_and_the_next_one_reads(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    await board.announce(said("one", "local", SMOL), 30)

    async def away(_client: object) -> int:
        raise Disconnected("It is away.")

    with monkeypatch.context() as while_away:
        while_away.setattr("consumers.offers.server_ms", away)
        for _ in range(2):
            with pytest.raises(Disconnected):
                await board.offers()
    assert await board.offers() == [SMOL]


class TestRouting:
    """A question's way, by the wish of VICTORIA_MODEL and the list of preferences."""

    @pytest.mark.parametrize(
        ("wish", "priority", "where"),
        [
            ("auto", (), Route("infer.ollama", "llama3.3:70b")),
            ("ollama", (), Route("infer.ollama", "llama3.3:70b")),
            ("ollama:llama3.3:70b", (), Route("infer.ollama", "llama3.3:70b")),
            ("llama3.3:70b", (), Route("infer.ollama", "llama3.3:70b")),
            ("mlx", (), Route("infer.mlx", "Qwen3-32B-4bit")),
            ("mlx:/models/Qwen3-32B-4bit", (), Route("infer.mlx", "Qwen3-32B-4bit")),
            ("local", (), Route("infer.local", "SmolLM2-135M-Instruct")),
            ("local:/models/SmolLM2-135M-Instruct.Q4_1.gguf", (), Route("infer.local", "SmolLM2-135M-Instruct")),
            ("SmolLM2-135M-Instruct", (), Route("infer.local", "SmolLM2-135M-Instruct")),
            ("auto", ("Qwen3-32B-4bit",), Route("infer.mlx", "Qwen3-32B-4bit")),
            ("auto", ("nowhere", "SmolLM2-135M-Instruct"), Route("infer.local", "SmolLM2-135M-Instruct")),
        ],
    )
    async def test_the_wish_and_the_list_decide(
        self, all_three: Board, wish: str, priority: tuple[str, ...], where: Route
    ) -> None:
        assert await OfferRouter(all_three, Wish.parse(wish), priority).route(QUESTION, []) == where

    @pytest.mark.parametrize(
        ("wish", "problem", "code"),
        [
            ("none", ModelFailed, "model.none"),
            ("ollama:llama3", NoModelNow, "model.absent"),
            ("mlx:llama3.3:70b", NoModelNow, "model.absent"),
            ("gpt-7", NoModelNow, "model.absent"),
        ],
    )
    async def test_a_wish_that_nobody_fulfils_is_told(
        self, all_three: Board, wish: str, problem: type[Exception], code: str
    ) -> None:
        with pytest.raises(problem) as caught:
            await OfferRouter(all_three, Wish.parse(wish), ()).route(QUESTION, [])
        assert getattr(caught.value, "code", "") == code

    async def test_background_questions_have_streams_of_their_own(self, all_three: Board) -> None:
        question = Question(system="", user="", answer=str, priority="background")
        route = await OfferRouter(all_three, Wish(), ()).route(question, [])
        assert route.stream == "infer.ollama.background"

    async def test_what_failed_leads_to_another_one_and_to_the_largest_context(self, all_three: Board) -> None:
        router = OfferRouter(all_three, Wish(), ())
        large = LLAMA.model.name
        assert (await router.route(QUESTION, [Tried(large, INVALID)])).model == large
        assert (await router.route(QUESTION, [Tried(large, INVALID)] * 2)).model == BIG.model.name
        assert (await router.route(QUESTION, [Tried(large, "model.broken")])).model == BIG.model.name
        with pytest.raises(ModelFailed) as caught:
            await router.route(QUESTION, [Tried(large, "model.overflow")])
        assert caught.value.code == "model.overflow"
        with pytest.raises(ModelFailed) as caught:
            await router.route(QUESTION, [Tried(one.model.name, "model.cut") for one in (LLAMA, BIG, SMOL)])
        assert caught.value.code == NO_OTHER

    async def test_what_came_or_broke_a_moment_ago_counts_where_it_matters(self, board: Board) -> None:
        router = OfferRouter(board, Wish(), ())
        with pytest.raises(NoModelNow):
            await router.route(QUESTION, [])
        await board.announce(said("cpu", "local", SMOL), 30)
        assert (await router.route(QUESTION, [])).model == SMOL.model.name  # there was none: look again
        await board.announce(said("gpu", "ollama", LLAMA), 30)
        tried = [Tried(SMOL.model.name, "model.cut")]
        assert (await router.route(QUESTION, tried)).model == LLAMA.model.name  # none beside it: look again
        down = offer("ollama", LLAMA.model.name, 70, state="open", error=AWAY)
        await board.announce(said("gpu", "ollama", down), 30)
        tried = [Tried(LLAMA.model.name, "model.unreachable")]
        assert (await router.route(QUESTION, tried)).model == SMOL.model.name  # it just failed: look again

    async def test_whether_a_back_end_is_served_is_known_now(self, board: Board) -> None:
        router, route = OfferRouter(board, Wish(), ()), Route("infer.local.background", "m")
        assert not await router.serves(route)
        await board.announce(said("cpu", "local"), 30)
        assert await router.serves(route)
        assert not await router.serves(Route("infer.mlx", "m"))
        await board.announce(said("cpu", "local"), 0)
        assert not await router.serves(route)


def test_an_announcement_survives_its_way_through_json() -> None:
    full = said("one", "ollama", offer("ollama", "m", 1, state="open", error=AWAY), faults=[Fault("n", AWAY)])
    assert msgspec.json.decode(msgspec.json.encode(full), type=Announcement) == full
