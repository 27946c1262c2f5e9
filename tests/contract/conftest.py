"""The contract holds on every server Victoria is made for: each test here runs on all that can be had."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.valkey import server_binary
from streams.connection import Client
from streams.keys import Keys
from tests.end_to_end.conftest import processes as processes
from tests.servers import Server, cluster, container, docker_answers, redis_binary, standalone
from tests.workshop import Workshop

IMAGES = {"valkey in docker": "valkey/valkey:9", "redis in docker": "redis:8"} if docker_answers() else {}
GIVEN = {"given": url} if (url := os.environ.get("VICTORIA_REDIS_URL")) else {}


@pytest.fixture(scope="session", params=["valkey", "redis", "cluster", *IMAGES, *GIVEN])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server after the other."""
    kind: str = request.param
    folder = tmp_path_factory.mktemp(kind.replace(" ", "-"))
    if kind in GIVEN:
        yield Server.at(GIVEN[kind])
    elif kind in IMAGES:
        with container(IMAGES[kind]) as url:
            yield Server.at(url)
    elif kind == "cluster":
        with cluster(program(server_binary), folder) as nodes:
            yield Server.at(nodes[-1].url)
    else:
        with standalone(program(server_binary if kind == "valkey" else redis_binary), folder) as url:
            yield Server.at(url)


def program(find: Callable[[], Path]) -> Path:
    """A server's program. Without it the test fails in CI, and is skipped elsewhere."""
    try:
        return find()
    except FileNotFoundError as problem:
        complain = pytest.fail if os.environ.get("CI") else pytest.skip
        return complain(str(problem))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of these tests look more often for what is due."""
    monkeypatch.setattr("streams.duties.PROMOTE_EVERY", 0.02)
    monkeypatch.setattr("streams.answers.LOOK_AGAIN", 0.1)


@pytest.fixture
def redis_url(server: Server) -> str:
    """The server's URL, for all other fixtures."""
    return server.url


@pytest.fixture
def workshop(client: Client, prefix: str) -> Workshop:
    """The test's own streams, in one partition."""
    return Workshop(client, Keys(prefix))
