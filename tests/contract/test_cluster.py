"""Victoria on a cluster, as people use it: the commands, stages as processes, and servers that go and come back."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import RedisError

from deploy.valkey import server_binary
from schemas.events import RunFinished
from streams.cluster import Client
from streams.connection import connect
from streams.keys import Keys
from tests.contract.conftest import program
from tests.end_to_end.conftest import Processes
from tests.gateway.conftest import Call, Cli
from tests.gateway.conftest import call as call
from tests.servers import SLOTS, Node, Server, agrees, cluster, wait_until
from tests.workshop import Workshop, eventually

STAGES = ("understand", "plan", "step-execute", "aggregate")
PARTITIONS = 4
RUNS = 500


@pytest.fixture(scope="module")
def server(nodes: list[Node]) -> Server:
    """These tests are about clusters only, and hurt theirs."""
    return Server.at(nodes[-1].url)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Three masters, and a replica of the first."""
    folder = tmp_path_factory.mktemp("fragile")
    with cluster(program(server_binary), folder, replicas=1, appendfsync="always") as nodes:
        yield nodes


@pytest.fixture(autouse=True)
def whole(nodes: list[Node]) -> None:
    """Every test begins on a cluster whose servers have found each other again."""
    wait_until(lambda: all(agrees(node, len(nodes)) for node in nodes))


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    """A client of a cluster that ends with this module, so nothing is removed."""
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def clients() -> AsyncIterator[Callable[[Node], Any]]:
    """Makes clients that are given one node; they are closed in the end."""
    made: list[Client] = []

    def client_of(node: Node) -> Client:
        made.append(connect(node.url))
        return made[-1]

    yield client_of
    for client in made:
        await client.aclose()


@pytest.fixture
def cli(redis_url: str, prefix: str, tmp_path: Path) -> Iterator[Cli]:
    """The command line in a small folder, told of the cluster."""
    (tmp_path / "only.txt").touch()
    cli = Cli(tmp_path, tmp_path / "unused")
    cli.environ |= {
        "VICTORIA_REDIS_URL": redis_url,
        "VICTORIA_PREFIX": prefix,
        "VICTORIA_PARTITIONS": str(PARTITIONS),
    }
    yield cli
    for running in cli.running:
        running.process.kill()
        running.process.wait()
        assert running.process.stdout
        running.process.stdout.close()
    assert not (tmp_path / "unused").exists(), "no embedded server was started"


def test_the_commands_work_on_any_node_of_a_cluster(cli: Cli, call: Call) -> None:
    report = call("run", "List the files here", "--json").json()
    assert report["output"] == "only.txt"

    up = cli.start("up")
    up.until("ready")
    published = cli("publish", "--stdin", "--wait", "--json", stdin='{"goal": "List the files here"}\n' * 20)
    assert (published.code, published.out.count('"completed"')) == (0, 20)
    assert call("tail", "results", "--json", "-n", "1000").out.count('"RunFinished"') == 21
    assert call("status", report["run_id"], "--json").json()["run"]["status"] == "completed"
    checks = call("doctor", "--json").json()
    assert {check["verdict"] for check in checks} == {"ok", "warning"}
    assert "a cluster of 3" in next(check["found"] for check in checks if check["name"] == "server")
    code, _ = up.end(signal.SIGTERM)
    assert code == 0


async def ends(workshop: Workshop) -> Counter[str]:
    """How often each run has ended."""
    found: Counter[str] = Counter()
    for partition in workshop.keys.of_stream("results"):
        for entry in await workshop.entries("results", partition):
            if entry.envelope and isinstance(entry.envelope.body, RunFinished):
                found[entry.envelope.run] += 1
    return found


async def test_runs_on_a_cluster_end_once_though_a_master_is_killed_and_comes_back(
    nodes: list[Node], processes: Processes, client: Client, prefix: str
) -> None:
    workshop = processes.workshop = Workshop(client, Keys(prefix, PARTITIONS))
    processes.environ |= {"VICTORIA_MODEL": "none", "VICTORIA_PARTITIONS": str(PARTITIONS)}
    for stage in STAGES:
        processes.start(stage)
    await processes.ready(*STAGES)
    runs = await workshop.publish(*["List the files in the folder docs and read docs/beta.txt"] * RUNS)
    victim = nodes[1]

    async def begun() -> bool:
        return any(
            [await client.exists(workshop.keys.stream(p, "results")) for p in workshop.keys.of_stream("results")]
        )

    await eventually(begun, within=60)
    assert (await ends(workshop)).total() < RUNS, "there is work left"
    victim.kill()
    await asyncio.to_thread(victim.start)

    async def all_ended() -> bool:
        try:
            return len(await ends(workshop)) == RUNS
        except RedisError:
            return False

    await eventually(all_ended, within=60)
    assert await ends(workshop) == Counter(runs)
    for partition in workshop.keys.of_stream("results"):
        assert await workshop.entries("dead", partition) == []
    assert set(processes.stop_all().values()) == {0}


async def test_a_slot_on_its_way_to_another_server_is_followed(
    nodes: list[Node], clients: Callable[[Node], Any]
) -> None:
    tag = next(f"{{t{n}}}" for n in range(99) if SLOTS // 3 <= key_slot(f"t{n}".encode()) < 2 * SLOTS // 3)
    slot = key_slot(tag.encode())
    _, source, target, _ = nodes
    client = clients(source)
    await client.incr(f"{tag}:before")
    target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.call("CLUSTER", "MYID"))
    source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target.call("CLUSTER", "MYID"))
    assert await client.incr(f"{tag}:new") == 1, "asked of the target"
    assert await client.pipeline(transaction=False).incr(f"{tag}:before").incr(f"{tag}:new").execute() == [2, 2]

    source.call("MIGRATE", "127.0.0.1", target.port, f"{tag}:before", 0, 1000)
    for node in (target, source):
        node.call("CLUSTER", "SETSLOT", slot, "NODE", target.call("CLUSTER", "MYID"))
    assert [await client.incr(f"{tag}:before"), await client.incr(f"{tag}:new")] == [3, 3]


async def test_a_client_follows_a_failover_even_of_the_server_it_was_given(
    nodes: list[Node], clients: Callable[[Node], Any]
) -> None:
    first, *_, replica = nodes
    client = clients(first)
    key = "{b}:counter"  # its slot, 3300, is the first master's
    assert await client.incr(key) == 1
    owner = await client.owner(key)
    assert owner.connection_pool.connection_kwargs["port"] == first.port

    wait_until(lambda: replica.call("INFO", "replication")["master_link_status"] == "up")
    replica.call("CLUSTER", "FAILOVER")
    wait_until(lambda: replica.call("INFO", "replication")["role"] == "master")
    assert await client.incr(key) == 2
    first.kill()

    async def counted() -> Any:
        try:
            return await client.incr(key)
        except RedisError:
            return 0

    await eventually(counted)
    assert int(await client.get(key)) == 3, "nothing was repeated"
    assert (await client.owner(key)).connection_pool.connection_kwargs["port"] == replica.port
    pipeline = client.pipeline(transaction=False)
    assert await pipeline.get(key).incr("{b}:other").incr("{a}:x").execute() == [b"3", 1, 1]
    first.start()
