"""A small TCP proxy in front of the server's unix socket, and what can go wrong on the way.

`Proxy` only passes bytes on; a subclass decides in `upward` (to the server) and `downward` (to the client) what becomes
of them. `FaultyProxy` is a bad network.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskStatus

BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)
CHUNK = 65_536
TRICKLE_BYTES, TRICKLE_PAUSE = 7, 0.002


class Cut(Exception):
    """Raised in a hook to break this connection."""


class Link:
    """One client's connection and its counterpart at the server."""

    def __init__(self, client: SocketStream, raw: socket.socket | None, scope: anyio.CancelScope) -> None:
        self.client, self._raw, self._scope = client, raw, scope

    def cut(self) -> None:
        """Break it, as a reset: what is under way is lost."""
        if self._raw:
            with suppress(OSError, ValueError):  # it is closed already
                self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._scope.cancel()


class Proxy:
    """Passes bytes between clients on a loopback port and the server's socket."""

    def __init__(self, server: Path) -> None:
        self.url = ""
        self.links: set[Link] = set()
        self._server = server

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `url` is known once started."""
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            self.url = f"redis://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
            task_status.started()
            await listener.serve(self._serve)

    def reset(self) -> None:
        """Break all connections there are."""
        for link in tuple(self.links):
            link.cut()

    async def upward(self, link: Link, data: bytes) -> bytes:
        """What the server gets of what a client sent. Raises Cut."""
        return data

    async def downward(self, link: Link, data: bytes) -> bytes:
        """What a client gets of what the server said. Raises Cut."""
        return data

    async def _serve(self, client: SocketStream) -> None:
        async with client:
            raw = _raw(client)
            try:
                # asyncio's own stream: anyio's for unix sockets may complain on the loop when it is cancelled.
                answers, server = await asyncio.open_unix_connection(self._server)
            except OSError:
                return  # the server is away: the client sees its connection closed

            async def to_server(data: bytes) -> None:
                server.write(data)
                await server.drain()

            try:
                async with anyio.create_task_group() as pumps:
                    link = Link(client, raw, pumps.cancel_scope)
                    self.links.add(link)
                    pumps.start_soon(_pump, link, client.receive, self.upward, to_server)
                    pumps.start_soon(_pump, link, lambda: answers.read(CHUNK), self.downward, client.send)
            finally:
                self.links -= {link for link in self.links if link.client is client}
                server.close()


def _raw(client: SocketStream) -> socket.socket | None:
    try:
        return client.extra(SocketAttribute.raw_socket)
    except (AttributeError, OSError):  # gone before it was looked at
        return None


async def _pump(
    link: Link,
    receive: Callable[[], Awaitable[bytes]],
    hook: Callable[[Link, bytes], Awaitable[bytes]],
    send: Callable[[bytes], Awaitable[None]],
) -> None:
    try:
        while data := await receive():
            if passed := await hook(link, data):
                await send(passed)
    except (*BROKEN, Cut):
        pass
    link.cut()


class FaultyProxy(Proxy):
    """A bad network. Each fault holds until `heal`; `cuts` replies are broken off in their middle.

    `latency` is seconds each chunk waits, `trickle` passes replies on in drops, `hole` swallows everything in silence.
    """

    def __init__(self, server: Path) -> None:
        super().__init__(server)
        self.latency = 0.0
        self.trickle = self.hole = False
        self.cuts = 0
        self._swallowed: set[Link] = set()

    def heal(self) -> None:
        """No more faults. Connections that lost bytes can't go on, and are reset."""
        self.latency, self.trickle, self.hole, self.cuts = 0.0, False, False, 0
        for link in self._swallowed & self.links:
            link.cut()
        self._swallowed.clear()

    async def upward(self, link: Link, data: bytes) -> bytes:
        """Late, or never."""
        if self.latency:
            await anyio.sleep(self.latency)
        return self._unless_hole(link, data)

    async def downward(self, link: Link, data: bytes) -> bytes:
        """Late, drop by drop, in part, or never."""
        if self.latency:
            await anyio.sleep(self.latency)
        if self.cuts:
            self.cuts -= 1
            await link.client.send(data[: len(data) // 2])
            raise Cut
        while self.trickle and not self.hole and len(data) > TRICKLE_BYTES:
            await link.client.send(data[:TRICKLE_BYTES])
            data = data[TRICKLE_BYTES:]
            await anyio.sleep(TRICKLE_PAUSE)
        return self._unless_hole(link, data)

    def _unless_hole(self, link: Link, data: bytes) -> bytes:
        if self.hole or link in self._swallowed:
            self._swallowed.add(link)
            return b""
        return data
