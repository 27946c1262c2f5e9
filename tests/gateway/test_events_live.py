"""Live events of a run over HTTP: all of them, in order, once, whatever happens to doors, clients and the server."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from deploy.embedded import find
from deploy.keeper import server_binary
from gateway.http import tapes
from gateway.http.follower import Happened
from gateway.http.live import Live
from schemas.events import AnswerProgressed, QuestionAsked, RunFinished
from tests.gateway.conftest import Cli
from tests.gateway.door import DoorProcess, lasting, start
from tests.load.wire import Answer, Sent, Wire, events
from tests.rows.given import planned, step, strategy_in
from tests.rows.house import House, at_work, finish, in_turn
from tests.servers import Node
from tests.workshop import eventually

LONG = "One two three four five six seven eight nine ten, and then it goes on to eleven, twelve and thirteen."
ASK = {"tool": "ask_user", "thought": "", "question": "Which page?", "choices": ["X", "Y"]}
LACK = {"tool": "missing_capability", "thought": "", "needed": "calendar"}


PREFIX = "victoria"


@pytest.fixture(scope="module")
def here(shared: Cli) -> Iterator[DoorProcess]:
    """A door beside whatever a test has at work."""
    with lasting(shared, "--alone") as door:
        yield door


@pytest.fixture(scope="module")
def url(shared: Cli) -> str:
    """The server that its runs are on."""
    return find(Path(shared.environ["VICTORIA_STATE_DIR"])) or ""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    strategy_in(tmp_path / "project-strategies_dir")
    return tmp_path / "project"


@asynccontextmanager
async def slow(url: str, folder: Path, pace: float = 0.03, prefix: str = PREFIX) -> AsyncGenerator[House]:
    """A house whose model takes its time for each word."""
    says = {"answer": LONG, "act": in_turn(ASK, LACK, finish("All of it."))}
    async with at_work(url, prefix, folder, says) as home:
        home.model.engine.pace = pace
        yield home


async def sent_by(door: DoorProcess, run: str, after: str = "") -> list[Sent]:
    """All events of a run until its stream ends."""
    return [each async for each in events(door.url, run, after)]


async def asked(door: DoorProcess, path: str) -> Answer:
    """A page."""
    async with await Wire.to(door.url) as wire:
        return await wire.ask("GET", path)


def told(sent: Sequence[Sent]) -> list[str]:
    """The names of all events but tokens."""
    return [each.name for each in sent if each.name != "token"]


async def answer(home: House, run: str, said: str) -> None:
    """Answer the question of a run, once there is one."""
    await eventually(lambda: home.waits(run))
    question = await home.said(run, QuestionAsked)
    await home.victoria.answer(await home.victoria.questions.find(question.question_id), said)


def text(pieces: Sequence[Any]) -> str:
    """The text of an answer; each piece has to go on where the one before ended."""
    whole = ""
    for each in pieces:
        assert each["offset"] == len(whole)
        whole += each["text"]
    return whole


def tokens(sent: Sequence[Sent], step_id: str) -> list[Any]:
    """The pieces of a step's answer."""
    return [each.data for each in sent if each.name == "token" and each.data["step"] == step_id]


def said(sent: Sequence[Sent]) -> list[tuple[str, Any]]:
    """Events without their ids."""
    return [(each.name, each.data) for each in sent]


async def test_all_that_happens_comes_in_order_and_the_rest_of_it_after_any_event_at_another_instance(
    cli: Cli, url: str, here: DoorProcess, folder: Path
) -> None:
    there = start(cli, "--alone")
    async with slow(url, folder) as home:
        run, sent = await planned(home, step("1"), step("2", "1", how="react", expert="memo")), list[Sent]()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer, home, run, "X")
            sent += await sent_by(here, run)
        names = [each.name for each in sent]
        assert told(sent) == [
            "understood", "plan", "task_start", "task_end", "task_start", "question", "handoff", "task_end", "result",
        ]  # fmt: skip
        data = {each.name: each.data for each in sent}
        assert data["plan"]["plan"]["strategy"] == "given"
        assert (data["question"]["text"], data["question"]["choices"]) == ("Which page?", ["X", "Y"])
        assert data["question"]["question_id"]
        assert "calendar" in data["handoff"]["text"]
        assert data["task_end"].keys() == {"at", "stage", "step_id", "status"}, "without what is empty"
        assert data["token"].keys() == {"step", "effect", "offset", "text"}
        assert data["result"] == (await asked(here, f"/run/status/{run}")).body

        pieces = tokens(sent, "1")
        assert text(pieces) == LONG
        assert len(pieces) > 3, "piece by piece"
        first = names.index("token")
        last = first + len(pieces) - 1
        assert names.index("task_start") < first, "nothing comes before what it follows from"
        assert last < names.index("task_end")
        assert len({each.id for each in sent}) == len(sent)

        assert said(await sent_by(there, run)) == said(sent)
        for number in (0, 2, first, last, len(sent) - 2):
            assert await sent_by(there, run, sent[number].id) == sent[number + 1 :]
        assert await sent_by(there, run, sent[-1].id) == []
        over = await asked(there, f"/run/{run}/events?last_event_id={sent[-1].id}")
        assert over.status == 204, "browsers stop asking then"


async def test_after_kill_9_of_its_door_a_client_goes_on_at_another_one(
    cli: Cli, url: str, here: DoorProcess, folder: Path
) -> None:
    doomed = start(cli, "--alone")
    async with slow(url, folder, 0.05) as home:
        run, sent = await planned(home, step("1")), list[Sent]()
        with suppress(OSError):
            async with aclosing(events(doomed.url, run)) as coming:
                async for each in coming:
                    sent.append(each)
                    if each.name == "token" and len(tokens(sent, "1")) == 3:
                        doomed.kill()
        assert sent[-1].name == "token"
        sent += [each async for each in events(here.url, run, sent[-1].id)]
    assert told(sent) == ["understood", "plan", "task_start", "task_end", "result"]
    assert text(tokens(sent, "1")) == LONG


async def test_of_what_the_server_has_dropped_the_result_is_left(
    cli: Cli, url: str, here: DoorProcess, folder: Path
) -> None:
    async with slow(url, folder, 0) as home:
        run = await planned(home, step("1"))
        await home.end(run)
        whole = await sent_by(here, run)
        assert told(whole) == ["understood", "plan", "task_start", "task_end", "result"]
        await home.victoria.client.delete(home.victoria.keys.feed(run))
        await home.victoria.client.xtrim(home.victoria.keys.stream("0", "results"), maxlen=0)
    later = start(cli, "--alone")
    left = await sent_by(later, run)
    assert said(left) == said(whole[-1:])
    assert await sent_by(later, run, left[0].id) == []
    assert said(await sent_by(later, run, whole[2].id)) == said(left)
    assert said(await sent_by(later, run, "999999999999999-0")) == said(left), "from beyond all that there is"


async def test_a_run_whose_end_was_dropped_before_it_was_read_has_its_result(
    redis_url: str, prefix: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the server is away for long: the reader sees nothing, and then the stream is trimmed."""

    def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr("gateway.http.live.LOOK_AGAIN", 0.1)
    monkeypatch.setattr("gateway.http.reader.heard", nothing)
    happened = list[Happened]()
    async with slow(redis_url, folder, prefix=prefix) as home, anyio.create_task_group() as tasks:
        live = Live(home.victoria)
        await tasks.start(live.follow)
        run = await planned(home, step("1"))

        async def watch() -> None:
            happened.extend([each async for each in live.events(run)])
            assert await live.of(run) == happened[-1].body
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        await home.end(run)
        await home.victoria.client.xtrim(home.victoria.keys.stream("0", "results"), maxlen=0)
    assert isinstance(happened[-1].body, RunFinished)


async def test_what_is_wrong_is_said(url: str, here: DoorProcess, folder: Path) -> None:
    async with at_work(url, PREFIX, folder, None) as home:
        run = await home.submit("Read docs/beta.txt")
        for wrong in ("nonsense", "1", "1-2/", "1-2/3", "1-2-3", "-1-0", "1-1/end/", "9" * 30 + "-0", "%EF%BC%91-0"):
            refused = await asked(here, f"/run/{run}/events?last_event_id={wrong}")
            assert (refused.status, refused.body["error"]["code"]) == (400, "events.place"), wrong
        unknown = await asked(here, "/run/nope/events")
        assert (unknown.status, unknown.body["error"]["code"]) == (404, "run.unknown")


async def test_200_clients_see_their_own_events_in_order(
    url: str, here: DoorProcess, prefix: str, folder: Path
) -> None:
    async with at_work(url, PREFIX, folder, None) as home:
        sent: dict[str, list[Sent]] = {}

        async def follow(run: str) -> None:
            sent[run] = await sent_by(here, run)

        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(follow, await home.submit("Read docs/beta.txt", f"{prefix}-{number}"))
    assert len(sent) == 200
    for run, own in sent.items():
        assert told(own) == ["understood", "plan", "task_start", "task_end", "result"]
        assert own[-1].data["task_id"] == run
        assert len({each.id for each in own}) == len(own)


async def test_who_takes_nothing_for_long_has_all_in_the_end_though_memory_holds_little(
    redis_url: str, prefix: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tapes, "ENTRIES", 3)
    monkeypatch.setattr("gateway.http.follower.PAGE", 2)
    happened, again = list[Happened](), list[Happened]()
    async with slow(redis_url, folder, 0.02, prefix) as home, anyio.create_task_group() as tasks:
        live = Live(home.victoria)
        await tasks.start(live.follow)
        run = await planned(home, step("1"), step("2"))
        async with aclosing(live.events(run)) as coming:
            happened.append(await anext(coming))
            await home.end(run)
            for _ in range(3):
                await home.run("Read docs/beta.txt")
            happened += [each async for each in coming]
        again += [each async for each in live.events(run)]
        tasks.cancel_scope.cancel()
    assert happened == again
    assert isinstance(happened[-1].body, RunFinished)
    pieces = [e for each in happened if isinstance(e := each.body, AnswerProgressed)]
    for own in ("1", "2"):
        assert text([{"offset": e.offset, "text": e.text} for e in pieces if e.step == own]) == LONG


@pytest.mark.heavy
async def test_while_its_server_is_away_a_stream_waits(cli: Cli, tmp_path: Path, folder: Path) -> None:
    server = Node(server_binary(), tmp_path / "server", appendfsync="always")
    server.start()
    try:
        door = start(cli, "--alone", "--redis-url", server.url)
        async with slow(server.url, folder, 0.1) as home:
            run, sent = await planned(home, step("1")), list[Sent]()
            async with aclosing(events(door.url, run)) as coming:
                async for each in coming:
                    sent.append(each)
                    if each.name == "token" and len(tokens(sent, "1")) == 2:
                        server.kill()
                        server.start()
        assert told(sent) == ["understood", "plan", "task_start", "task_end", "result"]
        assert len({each.id for each in sent}) == len(sent)
    finally:
        server.kill()


async def test_a_door_that_stops_ends_its_streams_and_another_goes_on(
    cli: Cli, url: str, here: DoorProcess, folder: Path
) -> None:
    door = start(cli, "--alone")
    async with slow(url, folder) as home:
        run, sent = await planned(home, step("1", how="react", expert="memo")), list[Sent]()
        async for each in events(door.url, run):
            sent.append(each)
            if each.name == "question":
                door.running.process.terminate()
        assert door.running.ended()[0] == 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer, home, run, "Y")
            sent += await sent_by(here, run, sent[-1].id)
    assert told(sent) == ["understood", "plan", "task_start", "question", "handoff", "task_end", "result"]
