"""Servers for tests: one by itself or a cluster, started on free loopback ports, ended by their process id."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

from redis import Redis, RedisError

SLOTS = 16384
WITHIN = 20.0
"""Seconds in which a server has to answer, and a cluster to agree."""


class Server(NamedTuple):
    """What a test runs on."""

    url: str
    kind: str
    version: str
    cluster: bool

    @classmethod
    def at(cls, url: str) -> "Server":
        """The server at a URL, by its own account."""
        with client_of(url) as client:
            info = client.info()
        kind = "valkey" if "valkey_version" in info else "redis"
        return cls(url, kind, info[f"{kind}_version"], bool(info["cluster_enabled"]))

    def __str__(self) -> str:
        return f"{self.kind} {self.version}{', a cluster' if self.cluster else ''}"


class Node:
    """One server process that keeps its data in `folder`: it can be killed and started again."""

    def __init__(self, binary: Path, folder: Path, **options: str) -> None:
        self.port, self.bus = free_ports(2)
        self.url = f"redis://127.0.0.1:{self.port}"
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if "cluster-enabled" in options:
            options = {"cluster-port": str(self.bus), **options}
        words = {"bind": "127.0.0.1", "port": str(self.port), "save": "", "appendonly": "yes", **options}
        self._command = [str(binary), *(part for key, value in words.items() for part in (f"--{key}", value))]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers and has loaded its data."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=self._folder, stdout=log, stderr=log)

        def answers() -> bool:
            assert self._process
            assert self._process.poll() is None, (self._folder / "log").read_text()
            with client_of(self.url) as client:
                return bool(client.ping())

        wait_until(answers)

    def kill(self) -> None:
        """kill -9, if it runs."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def call(self, *words: str | int) -> Any:
        """Have one command carried out here."""
        with client_of(self.url) as client:
            return client.execute_command(*words)


@contextmanager
def standalone(binary: Path, folder: Path) -> Generator[str]:
    """The URL of a server that runs inside."""
    node = Node(binary, folder)
    try:
        node.start()
        yield node.url
    finally:
        node.kill()


@contextmanager
def cluster(binary: Path, folder: Path, masters: int = 3, replicas: int = 0, **options: str) -> Generator[list[Node]]:
    """A cluster that runs inside: its masters, with the slots shared evenly, and then replicas of the first."""
    with ExitStack() as leaving:
        nodes: list[Node] = []
        for number in range(masters + replicas):
            node = Node(binary, folder / str(number), **{"cluster-enabled": "yes", **options})
            leaving.callback(node.kill)
            node.start()
            nodes.append(node)
        for number, node in enumerate(nodes[:masters]):
            first, end = number * SLOTS // masters, (number + 1) * SLOTS // masters
            node.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.call("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for node in nodes[1:]:
            nodes[0].call("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus)
        wait_until(lambda: all(agrees(node, len(nodes)) for node in nodes))
        for node in nodes[masters:]:
            node.call("CLUSTER", "REPLICATE", nodes[0].call("CLUSTER", "MYID"))
        wait_until(lambda: all(agrees(node, len(nodes)) for node in nodes))
        yield nodes


def agrees(node: Node, size: int) -> bool:
    """Whether a node serves, and is connected to so many, itself among them: what is published goes these ways."""
    others = [line.split() for line in node.call("CLUSTER", "NODES").decode().splitlines()]
    known = [fields for fields in others if "handshake" not in fields[2] and fields[7] == "connected"]
    return len(known) == size and b"cluster_state:ok" in node.call("CLUSTER", "INFO")


def free_ports(count: int) -> Sequence[int]:
    """Ports nobody listens on just now."""
    with ExitStack() as leaving:
        sockets = [leaving.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_until(holds: Any) -> None:
    """Wait until a condition is truthy and raises no error of a server's."""
    give_up = time.monotonic() + WITHIN
    while True:
        with contextlib.suppress(RedisError, OSError):
            if holds():
                return
        assert time.monotonic() < give_up, "the server does not come up"
        time.sleep(0.01)


def client_of(url: str) -> Any:
    """A plain blocking client."""
    return cast("Any", Redis).from_url(url, protocol=2, socket_timeout=5)


def redis_binary() -> Path:
    """The redis-server of REDIS_SERVER, else of the PATH. Raises FileNotFoundError where there is none."""
    found = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
    if not found:
        raise FileNotFoundError("There is no redis-server on the PATH; REDIS_SERVER names one elsewhere.")
    return Path(found)


def docker_answers() -> bool:
    """Whether there is a Docker engine, at DOCKER_HOST or on its usual socket."""
    kind, _, place = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").partition("://")
    host, _, port = place.rpartition(":")
    with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as engine:
        engine.settimeout(5)
        try:
            engine.connect(place if kind == "unix" else (host, int(port)))
        except (OSError, ValueError):
            return False
    return True


@contextmanager
def container(image: str) -> Generator[str]:
    """The URL of a server in a container that runs inside."""
    from testcontainers.core.container import DockerContainer

    with DockerContainer(image).with_exposed_ports(6379) as running:
        url = f"redis://{running.get_container_host_ip()}:{running.get_exposed_port(6379)}"

        def answers() -> bool:
            with client_of(url) as client:
                return bool(client.ping())

        wait_until(answers)
        yield url
