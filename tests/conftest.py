"""What all tests share: a real server, and a key prefix of their own."""

import os
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
import structlog

from consumers.tools import sandbox
from deploy.embedded import embedded
from gateway import logs
from streams.connection import Client, connect
from tests.servers import docker_answers
from tests.workshop import wipe

logs.configure("info")  # as in production: the library's own way to show a traceback takes longer than most tests


def pytest_report_header() -> list[str]:
    """Say what can't be tested here, and with what is: of what runs in parallel only this is heard."""
    contract = [] if docker_answers() else ["contract: skipped in containers, since no Docker engine answers"]
    bwrap = sandbox.working(None)
    return [*contract, f"sandbox: {bwrap or 'skipped, since bubblewrap does not work here; limits and refusals only'}"]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Async tests run on asyncio, which the redis client needs, and on the loop that production uses."""
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture(autouse=True)
def _plain_logs() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    """Logs with short tracebacks: drawing one with all its values takes seconds, in which nothing else goes on."""
    renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server: the one of VICTORIA_REDIS_URL, else an embedded Valkey of this test session."""
    if url := os.environ.get("VICTORIA_REDIS_URL"):
        yield url
    else:
        with embedded(tmp_path_factory.mktemp("server")) as url:
            yield url


@pytest.fixture
def prefix() -> str:
    """A key prefix no other test uses."""
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture
async def client(redis_url: str, prefix: str) -> AsyncIterator[Client]:
    """A client; what the test left under its prefix is removed afterwards."""
    client = connect(redis_url)
    yield client
    await wipe(client, prefix)
    await client.aclose()
