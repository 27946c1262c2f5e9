"""Connections to the server, and its errors as ours."""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import hiredis
from redis import exceptions as refused
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from schemas.errors import CouldNotStart, NotReachable
from streams.cluster import Client

TROUBLE = (refused.RedisError, OSError)
"""What any command may raise while the server is away, loading, full or read-only."""

CONNECTIONS = 2048
"""At most, to one server: each stage waits for the entries of each partition on a connection of its own."""
OLDEST = (7, 0)


class Packed:
    """Lets hiredis write commands as well as read replies, which the client's async connections do in Python.
    A write to a connection that the other side has broken fails as one, on every event loop."""

    def pack_command(self, *args: str | bytes | float) -> list[bytes]:
        """One command in the server's protocol; the client gives words such as `SCRIPT LOAD` as one argument."""
        pack = cast("Any", hiredis).pack_command  # its stub takes one-element commands only
        return [pack((*str(args[0]).split(" "), *args[1:]))]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Write what was packed. Raises redis errors only."""
        try:
            await cast("Any", super()).send_packed_command(command, check_health)
        except RuntimeError as problem:
            # uvloop's word for a transport that was closed a moment ago; asyncio's own would have taken the bytes.
            raise refused.ConnectionError(f"The connection is closed: {problem}") from problem


def connect(url: str) -> Client:
    """A client for `url` (redis://, rediss://, unix://), a server or any server of a cluster; nothing is sent yet.

    The client never repeats a command by itself: a repeated XREADGROUP would lose sight of what the first one
    delivered. Each caller knows how to try again.
    """
    pool: Any = cast("Any", BlockingConnectionPool).from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=None,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        socket_connect_timeout=5,
        socket_timeout=None,  # the client watches over whole commands
        protocol=2,
        driver_info=None,  # to find its own version out takes the client 6 ms for each connection
    )
    pool.connection_class = type("PackedConnection", (Packed, pool.connection_class), {})
    client = Client(pool)
    # The hop takes entries as the server gives them; a dict for each would cost more than to decode its event.
    del cast("Any", client).response_callbacks["XREADGROUP"]
    return client


async def server_ms(client: Client) -> int:
    """The time in ms since 1970 by a server's clock, which all who share the server agree on. Raises redis errors.

    A cluster's servers may differ by what its machines' clocks do.
    """
    seconds, micros = await cast("Any", client).time()
    return seconds * 1000 + micros // 1000


def masked(url: str) -> str:
    """`url` without what may be a password in it, however malformed it is."""
    head, at, tail = url.rpartition("@")
    if at and not re.match(r"[\w+.-]+:///", head):  # no host part: an @ in a socket's path
        start = re.match(r"[\w+.-]+://(?:[^:/@]*:)?", head)
        url = f"{start[0] if start else ''}***@{tail}"
    url = re.sub(r"(://[^\s/@:\[]*:)(?!\*|\d+(?:[/?\s:.,;)]|$))[^\s/@]+", r"\1***", url)  # the host was forgotten
    return re.sub(r"(?i)(password=)('[^']*'|[^&\s]*)", r"\1***", url)


@contextmanager
def reachable(url: str) -> Generator[None]:
    """Turn the server's trouble inside into NotReachable, naming the server."""
    try:
        yield
    except refused.BusyLoadingError as cause:
        raise NotReachable(
            "server.loading", f"{masked(url)} is still loading its data.", "Try again in a moment."
        ) from cause
    except refused.OutOfMemoryError as cause:
        raise NotReachable(
            "server.full",
            f"{masked(url)} has no memory left for new entries.",
            "Raise its maxmemory, or lower VICTORIA_KEEP and VICTORIA_KEEP_ENTRIES; workers go on when there is room.",
        ) from cause
    except (refused.ReadOnlyError, refused.MasterDownError) as cause:
        raise NotReachable(
            "server.read_only",
            f"{masked(url)} is a replica and takes no entries: {cause}",
            "Correct VICTORIA_REDIS_URL, or wait until the server is promoted.",
        ) from cause
    except (refused.ConnectionError, refused.TimeoutError, OSError) as cause:
        # The client reports a refused login as a broken connection.
        if re.search(r"\bAUTH\b|WRONGPASS|NOAUTH|invalid username", str(cause)):
            raise NotReachable(
                "server.denied", f"{masked(url)} refuses the login: {cause}", "Check the user and password in the URL."
            ) from cause
        raise NotReachable(
            "server.unreachable",
            f"No server answers at {masked(url)}: {cause}",
            "Start it, correct VICTORIA_REDIS_URL, or unset it to use the embedded server.",
        ) from cause
    except refused.ResponseError as cause:
        raise NotReachable(
            "server.refused", f"{masked(url)} refuses: {cause}", "`victoria doctor` says more."
        ) from cause


async def server_info(client: Client) -> list[dict[str, Any]]:
    """INFO of the server, of a cluster's each, checked: raises CouldNotStart where one is too old for Victoria."""
    infos: list[dict[str, Any]] = [await server.info() for server in await client.masters()]
    for info in infos:
        version = version_of(info)
        major, minor = (int(part) for part in f"{version}.0".split(".")[:2])
        if (major, minor) < OLDEST:
            raise CouldNotStart(
                "server.too_old",
                f"The server has version {version}.",
                "Victoria needs Redis 7.0 or Valkey 8, or newer.",
            )
    return infos


def version_of(info: dict[str, Any]) -> str:
    """The version a server's INFO tells; Valkey's own, not that of the Redis it is compatible with."""
    return str(info.get("valkey_version") or info.get("redis_version", "0"))


def evicting(info: Mapping[str, Any]) -> str:
    """The maxmemory-policy by which a server with this INFO may remove whole streams; empty if it never does."""
    policy = str(info.get("maxmemory_policy", ""))
    return policy if int(info.get("maxmemory", 0)) and policy != "noeviction" else ""
