"""The server's errors are ours: typed, with a hint, and without passwords."""

import asyncio
import re
from contextlib import suppress
from typing import Any

import anyio.lowlevel
import pytest

from schemas.errors import CouldNotStart, NotReachable
from streams.connection import TROUBLE, Client, connect, masked, reachable, server_info


async def test_a_server_that_is_not_there_is_a_typed_error_that_names_it_without_its_password() -> None:
    url = "redis://user:secret@127.0.0.1:1/0"
    client = connect(url)
    with pytest.raises(NotReachable) as refusal, reachable(url):
        await server_info(client)
    await client.aclose()
    assert (refusal.value.code, refusal.value.exit_code) == ("server.unreachable", 5)
    assert "127.0.0.1:1" in refusal.value.message
    assert "secret" not in str(refusal.value)
    assert "VICTORIA_REDIS_URL" in refusal.value.hint


async def test_a_wrong_password_is_said_as_such(redis_url: str) -> None:
    url = redis_url.replace("://", "://:wrong@") if "@" not in redis_url else redis_url
    client = connect(url)
    with pytest.raises(NotReachable) as refusal, reachable(url):
        await server_info(client)
    await client.aclose()
    assert refusal.value.code == "server.denied"
    assert ":wrong@" not in str(refusal.value)


async def test_a_real_server_is_accepted_and_an_old_one_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all("redis_version" in info for info in await server_info(client))

    async def old() -> dict[str, Any]:
        return {"redis_version": "6.2.14"}

    (server, *_) = await client.masters()
    monkeypatch.setattr(server, "info", old)
    with pytest.raises(CouldNotStart, match=r"6\.2\.14") as refusal:
        await server_info(client)
    assert refusal.value.code == "server.too_old"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("LOADING Server is loading the dataset in memory", "server.loading"),
        ("OOM command not allowed when used memory > 'maxmemory'. script: 0f, on @user_script:5.", "server.full"),
        ("READONLY You can't write against a read only replica. script: 0f, on @user_script:5.", "server.read_only"),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "server.read_only"),
        ("ERR unknown command", "server.refused"),
    ],
)
async def test_the_servers_own_trouble_has_a_name_and_may_pass(reply: str, code: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):  # a client that is told of loading hangs up
            while commands := await reader.read(65_536):
                writer.write(f"-{reply}\r\n".encode() * len(re.findall(rb"(?m)^\*", commands)))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = connect(url)
        with pytest.raises(NotReachable) as refusal, reachable(url):
            await server_info(client)
        await client.aclose()
    assert (refusal.value.code, refusal.value.retryable, bool(refusal.value.hint)) == (code, True, True)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:secret@host:1", "redis://:***@host:1"),
        ("redis://:secret", "redis://:***"),
        ("redis://host:6379", "redis://host:6379"),
        ("rediss://me:secret@host:1/2", "rediss://me:***@host:1/2"),
        ("unix:///run/a@b.sock?password=secret", "unix:///run/a@b.sock?password=***"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


async def ping(connection: Any) -> None:
    await connection.send_command("PING")
    await connection.read_response()


async def test_writing_to_a_connection_that_was_broken_is_trouble_that_callers_know(client: Client) -> None:
    pool: Any = client.connection_pool
    connection = await pool.get_connection()
    connection._writer.transport.abort()
    await anyio.lowlevel.checkpoint()
    with pytest.raises(TROUBLE):  # asyncio takes the bytes, and the answer never comes; uvloop refuses them
        await ping(connection)
    await pool.release(connection)
