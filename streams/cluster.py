"""The one client of everything, and the one place that knows about clusters.

A client finds out with its first command whether its server is one of a cluster. If so, each command goes to the
server that holds its key; a MOVED or ASK reply, which says that nothing was done, is followed; and after a broken
connection the map of the slots is asked for again, of any server that answers, before the next command. So a client
outlives the server it was given, and like on a single server no command that may have been carried out is repeated.

redis-py has a cluster client of its own. It asks the server where the keys of each
XREADGROUP are before it sends it, drops all connections when one slot is down, takes no connection class, and raises
errors that are no RedisErrors.
"""

import asyncio
from collections.abc import Iterable
from random import choice, sample
from typing import Any, cast

from redis import exceptions as refused
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline, PubSub
from redis.asyncio.connection import Connection, UnixDomainSocketConnection
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot

REDIRECTIONS = 5
"""How often one command is followed to another server before its last reply stands."""
KEYLESS = frozenset({"INFO", "TIME", "PING", "PUBLISH"})
"""What any server of a cluster does as well as any other."""
OF_ONE_SERVER = frozenset({"SCAN", "KEYS", "DBSIZE", "RANDOMKEY", "FLUSHALL", "FLUSHDB", "CONFIG", "CLIENT"})
STREAMS = (b"STREAMS", "STREAMS")
ANSWER_WITHIN = 15.0
"""Seconds after which a silent server counts as gone; blocking reads are shorter."""
GONE = (refused.ConnectionError, refused.TimeoutError, OSError)


def _key(args: tuple[Any, ...]) -> str | bytes | None:
    """The first key of a command; the server sees to it that the others are in the same slot. None: it has no key."""
    match args[0].partition(" ")[0]:
        case "EVALSHA" | "EVAL":
            return args[3] if int(args[2]) else None
        case "XREAD" | "XREADGROUP" as name:
            start = 4 if name == "XREADGROUP" else 1  # a group may be called anything
            return next(key for word, key in zip(args[start:], args[start + 1 :], strict=False) if word in STREAMS)
        case name if name in KEYLESS:
            return None
        case name if name in OF_ONE_SERVER:
            raise refused.DataError(f"{name} is about one server: give it to each of `masters()`.")
        case _:
            return args[1]


def _slot(key: str | bytes) -> int:
    return key_slot(key if isinstance(key, bytes) else key.encode())


class Client(Redis):
    """A client of one server or of the cluster it belongs to; nothing is sent before the first command.

    Raises redis-py's errors. Takes commands whose key is their first argument, XREAD, XREADGROUP and scripts of keys
    in one slot, and what KEYLESS names; for others ask one of `masters()`.
    """

    def __init__(self, pool: BlockingConnectionPool) -> None:
        cast("Any", super()).__init__(connection_pool=pool)
        self._given = self._on(pool)
        self._stale = True
        self._learning = asyncio.Lock()
        self._owners: list[Any] = []  # of each slot, None where there is none; empty: not in a cluster
        self._masters: list[Any] = []
        self._nodes: dict[tuple[str, int], Any] = {}

    def line(self) -> "Line":
        """A connection to the same servers for one who sends a command at a time, often."""
        return Line(self)

    async def masters(self) -> list[Any]:
        """Every server that holds keys: this client itself where there is no cluster."""
        return self._masters if await self._in_cluster() else [self]

    async def owner(self, key: str | bytes | None) -> Any:
        """The server that holds a key, any of them for None."""
        if not await self._in_cluster():
            return self
        node = self._owners[_slot(key)] if key is not None else choice(self._masters)  # noqa: S311 - no secret
        if node is None:
            self._stale = True
            raise refused.ClusterDownError("Hash slot not served")
        return node

    async def together(self, keys: Iterable[str]) -> list[list[str]]:
        """The keys in groups that one command may name: all together, or in a cluster by slot."""
        groups: dict[int, list[str]] = {}
        cluster = await self._in_cluster()
        for key in keys:
            groups.setdefault(_slot(key) if cluster else 0, []).append(key)
        return list(groups.values())

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Have a command carried out by the server that holds its key; at most once."""
        async with asyncio.timeout(ANSWER_WITHIN):
            if not await self._in_cluster():
                return await self._given.execute_command(*args, **options)
            return await self._on_its_server(*args, **options)

    async def _on_its_server(self, *args: Any, **options: Any) -> Any:
        node = await self.owner(_key(args))
        for last in range(REDIRECTIONS, -1, -1):
            try:
                return await self.watched(node.execute_command(*args, **options))
            except refused.AskError as redirection:  # MovedError is one
                if not last:
                    raise
                node = self._redirected(redirection, node)
                if not isinstance(redirection, refused.MovedError):
                    asking: Any = node.pipeline(transaction=False).execute_command("ASKING")
                    asking.execute_command(*args, **options)
                    return (await self.watched(asking.execute()))[1]
        raise AssertionError("the last try returns or raises")

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "Batch":
        """Commands to be sent together: to each server of a cluster its own."""
        return Batch(self, transaction, shard_hint)

    def pubsub(self, **kwargs: Any) -> PubSub:
        """A subscription at any server: what is published at one is heard at all. If it breaks, take a new one."""
        return choice(self._masters or [self._given]).pubsub(**kwargs)  # noqa: S311 - no secret

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections."""
        for node in (*self._nodes.values(), self._given):
            await node.aclose(close_connection_pool)

    async def watched(self, command: Any) -> Any:
        """Await a command's reply; if its server seems to be gone, the map is asked for before the next one."""
        try:
            return await command
        except (*GONE, refused.ReadOnlyError, refused.ClusterDownError):
            self._stale = True
            raise

    async def _in_cluster(self) -> bool:
        if self._stale:
            async with self._learning:
                if self._stale:
                    await self._learn()
        return bool(self._owners)

    async def _learn(self) -> None:
        """Ask for the map of the slots. Raises the last problem when nobody answers."""
        known = self._masters
        problem: Exception = refused.ConnectionError("no server is known")
        for node in (*sample(known, len(known)), self._given):  # the address that was given may lead to a new server
            try:
                slots: Any = await node.execute_command("CLUSTER SLOTS")
            except GONE as gone:
                problem = gone
            except refused.ResponseError:
                if known:
                    raise
                self._stale = False  # it has no such command, or it is not for us: a server by itself
                return
            else:
                owners: list[Any] = [None] * SLOTS
                host = node.connection_pool.connection_kwargs.get("host", "localhost")
                for first, end, (name, port, *_), *_replicas in slots:
                    owners[first : end + 1] = [self._node(name.decode() if name else host, port)] * (end + 1 - first)
                self._owners, self._stale = owners, False
                self._masters = [node for node in dict.fromkeys(owners) if node]
                return
        raise problem

    def _node(self, host: str, port: int) -> Any:
        """The client of one server of the cluster, made like that of the given address."""
        node = self._nodes.get((host, port))
        if node is None:
            given: Any = self.connection_pool
            kind: Any = given.connection_class
            if issubclass(kind, UnixDomainSocketConnection):
                kind = type("NodeConnection", (kind.__bases__[0], Connection), {})
            options = {
                key: value for key, value in given.connection_kwargs.items() if key not in ("host", "port", "path")
            }
            pool: Any = BlockingConnectionPool(
                connection_class=kind,
                max_connections=given.max_connections,
                timeout=None,
                host=host,
                port=port,
                **options,
            )
            node = self._nodes[host, port] = self._on(pool)
        return node

    def _on(self, pool: Any) -> Any:
        node: Any = Redis.from_pool(pool)
        node.response_callbacks = self.response_callbacks
        return node

    def _redirected(self, redirection: Any, sender: Any) -> Any:
        """The server that a reply named; for a move, also for what comes next."""
        host = redirection.host or sender.connection_pool.connection_kwargs["host"]
        node = self._node(host, redirection.port)
        if isinstance(redirection, refused.MovedError):
            self._stale = True
            self._owners[redirection.slot_id] = node
        return node

    async def run(self, batch: "list[tuple[tuple[Any, ...], Any]]", transaction: bool) -> list[Any]:
        """Carry out a pipeline's commands, each on its server; their replies, error replies among them."""
        shares: dict[Any, list[int]] = {}
        for number, (args, _) in enumerate(batch):
            shares.setdefault(await self.owner(_key(args)), []).append(number)
        if transaction and len(shares) > 1:
            raise refused.DataError("A transaction can't reach over two servers.")

        async def share(node: Any, numbers: list[int]) -> list[Any]:
            pipeline: Any = Redis.pipeline(node, transaction=transaction)
            pipeline.command_stack = [batch[number] for number in numbers]
            return await self.watched(pipeline.execute(raise_on_error=False))

        done = await asyncio.gather(*(share(*each) for each in shares.items()), return_exceptions=True)
        replies: dict[int, Any] = {}
        for (node, numbers), part in zip(shares.items(), done, strict=True):
            if isinstance(part, BaseException):
                raise part
            for number, reply in zip(numbers, part, strict=True):
                replies[number] = reply
                if isinstance(reply, refused.AskError):
                    self._redirected(reply, node)
        for number, reply in replies.items():
            if isinstance(reply, refused.AskError):  # it was not carried out
                args, options = batch[number]
                replies[number] = await self.execute_command(*args, **options)
        return [replies[number] for number in range(len(batch))]


class Line:
    """A connection kept for one who sends commands often, one at a time, and takes replies as the server gives them.

    A command costs a third of what it does through the pool. It takes the same commands as Client.execute_command, and
    after trouble connects anew with the next one.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._connections: dict[Any, Any] = {}  # by the client of their server

    async def execute_command(self, *args: Any) -> Any:
        """Have a command carried out by the server that holds its key; at most once."""
        try:
            return await self._client.watched(self._carried_out(args))
        except refused.AskError:
            return await self._client.execute_command(*args)  # it was not carried out

    async def _carried_out(self, args: tuple[Any, ...]) -> Any:
        async with asyncio.timeout(ANSWER_WITHIN):
            node = await self._client.owner(_key(args))
            connection = self._connections.get(node)
            if connection is None:
                connection = self._connections[node] = await node.connection_pool.get_connection()
            await connection.send_command(*args)
            return await connection.read_response()

    async def close(self) -> None:
        """Give the connections back; one that was left in the midst of a command has been closed."""
        while self._connections:
            node, connection = self._connections.popitem()
            await node.connection_pool.release(connection)


class Batch(Pipeline):
    """A pipeline over a cluster's servers; on a single server redis-py's own."""

    def __init__(self, client: Client, transaction: bool, shard_hint: str | None) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """The replies in the order of the commands."""
        async with asyncio.timeout(ANSWER_WITHIN):
            if not self.command_stack or await self._client.owner(None) is self._client:
                return await super().execute(raise_on_error)
            batch = self.command_stack
            await self.reset()
            replies = await self._client.run(cast("Any", batch), self.is_transaction)
            return _first_raised(replies) if raise_on_error else replies


def _first_raised(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
