"""The bad network really is bad, and only while it is told to be; a boundary kills exactly there."""

import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from streams.connection import TROUBLE, connect
from streams.scripts import Scripts
from tests.chaos.boundary import SCRIPTS, Boundary, BoundaryProxy, meaning
from tests.chaos.proxy import FaultyProxy, Proxy
from tests.chaos.server import Server
from tests.workshop import eventually

LONG = "x" * 5_000


@asynccontextmanager
async def behind(proxy: Proxy) -> AsyncGenerator[Any]:
    """A client whose connections go through the proxy."""
    async with anyio.create_task_group() as tasks:
        await tasks.start(proxy.run)
        client = connect(proxy.url)
        yield client
        await client.aclose()
        tasks.cancel_scope.cancel()


async def patiently(command: Callable[[], Awaitable[Any]]) -> Any:
    """The answer, as every caller gets it: broken connections are noticed one by one, new ones work."""
    with anyio.fail_after(20):
        while True:
            try:
                return await command()
            except TROUBLE:
                await anyio.sleep(0.01)


async def test_without_faults_everything_passes(server: Server) -> None:
    async with behind(FaultyProxy(server.socket)) as client:
        await client.set("key", LONG)
        assert (await client.get("key")).decode() == LONG


async def test_a_reset_breaks_what_is_under_way_and_a_later_command_passes(server: Server) -> None:
    proxy = FaultyProxy(server.socket)
    broken: list[BaseException] = []
    async with behind(proxy) as client:

        async def wait() -> None:
            try:
                await client.blpop("nothing", timeout=30)
            except TROUBLE as problem:
                broken.append(problem)

        async with anyio.create_task_group() as waiting:
            waiting.start_soon(wait)

            async def blocked() -> bool:
                direct: Any = connect(server.url)
                try:
                    return (await direct.info("clients"))["blocked_clients"] == 1
                finally:
                    await direct.aclose()

            await eventually(blocked)
            proxy.reset()
        assert len(broken) == 1
        assert await patiently(client.ping)


async def test_a_reply_is_cut_off_in_its_middle_though_the_command_was_carried_out(server: Server) -> None:
    proxy = FaultyProxy(server.socket)
    async with behind(proxy) as client:
        await client.set("key", LONG)
        proxy.cuts = 1
        with pytest.raises(TROUBLE):
            await client.getset("key", "new")
        assert await patiently(lambda: client.get("key")) == b"new"


async def test_a_late_and_trickling_reply_arrives_whole(server: Server) -> None:
    proxy = FaultyProxy(server.socket)
    async with behind(proxy) as client:
        await client.set("key", LONG)
        proxy.latency, proxy.trickle = 0.01, True
        assert (await client.get("key")).decode() == LONG


async def test_a_black_hole_swallows_everything_until_it_is_gone(server: Server) -> None:
    proxy = FaultyProxy(server.socket)
    async with behind(proxy) as client:
        await client.ping()
        proxy.hole = True
        with anyio.move_on_after(0.2) as patience:
            await client.set("key", "swallowed")
        assert patience.cancelled_caught
        proxy.heal()
        assert await patiently(lambda: client.get("key")) is None


async def test_a_killed_server_is_trouble_and_comes_back_with_what_it_had(server: Server) -> None:
    async with behind(FaultyProxy(server.socket)) as client:
        await client.set("key", "kept")
        await server.kill()
        with pytest.raises(TROUBLE):
            await client.ping()
        await server.start()
        assert await patiently(lambda: client.get("key")) == b"kept"
        await server.shut_down()
        await server.start()
        assert await patiently(lambda: client.get("key")) == b"kept"


@pytest.mark.parametrize(("when", "value"), [("before", b"1"), ("after", b"2")])
async def test_a_victim_dies_right_at_its_boundary(server: Server, when: Any, value: bytes) -> None:
    victim = subprocess.Popen(["sleep", "60"])  # noqa: ASYNC220 - a fork takes no time
    proxy = BoundaryProxy(server.socket, Boundary("incrby", 2, when))
    proxy.victim = victim.pid
    direct: Any = connect(server.url)
    async with behind(proxy) as client:
        assert await client.incr("key") == 1
        with anyio.move_on_after(0.3) as unanswered:
            await client.incr("key")
        assert unanswered.cancelled_caught
        assert await anyio.to_thread.run_sync(victim.wait) == -9
        assert await direct.get("key") == value
    await direct.aclose()


@pytest.mark.parametrize(
    ("command", "known_as"),
    [
        ("XREADGROUP GROUP plan me COUNT 5 BLOCK 5000 STREAMS {v:0}:plan >", "read"),
        ("XREADGROUP GROUP plan me COUNT 5 STREAMS {v:0}:plan 0", "read again"),
        ("EVALSHA RECORD 1 {v:0}:journal:r 1 now 1 e/pay!", "intent"),
        ("EVALSHA RECORD 1 {v:0}:journal:r 1 {} 1 e/pay", "record"),
        ("EVALSHA RECORD 1 {v:0}:journal:r 1 _ 1 e/pay", "journal"),
        ("EVALSHA RECORD 1 {v:0}:run:r 1 _ 2 aggregate aggregate.v", "state"),
        ("EVALSHA RECORD 2 {v:0}:run:r {v:0}:journal:r 1 _ 2 aggregate aggregate.v 2 now 1 e/pay!", "intent"),
        ("EVALSHA 0123 1 key", "script"),
        ("PUBLISH v:answers:me e/ask", "hint"),
        ("CLIENT SETINFO LIB-NAME x", ""),
        ("OBJECT FREQ x", "object"),
    ],
)
def test_a_command_is_known_by_what_it_is_for(command: str, known_as: str) -> None:
    record = next(sha.decode() for sha, name in SCRIPTS.items() if name == "record")
    words = ["" if word == "_" else word for word in command.replace("RECORD", record).split()]
    assert meaning([word.encode() for word in words]) == known_as


async def test_every_script_is_known_by_its_name(server: Server) -> None:
    client: Any = connect(server.url)
    known = {value.digest.encode() for value in vars(Scripts(client)).values()}
    await client.aclose()
    assert known <= SCRIPTS.keys()
