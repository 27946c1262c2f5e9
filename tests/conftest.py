"""What all tests share: a real server, and a key prefix of their own."""

import os
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import platformdirs
import pytest
import structlog

from consumers.postgres.database import Database, quoted
from consumers.postgres.migrate import migrate
from consumers.tools import sandbox
from deploy.embedded import embedded
from gateway import logs
from llm.fetch import ensure_model
from streams.connection import Client, connect
from tests.databases import database_server
from tests.llm.build_ollama import BINARY
from tests.llm.real_ollama import real_ollama
from tests.servers import docker_answers
from tests.workshop import wipe

os.environ.setdefault("VICTORIA_ANSWER_CACHE", "0")
"""Tests that send the same goal twice are about the way to its answer; those of the cache turn it on."""
pytest.register_assert_rewrite("tests.contract.store")
logs.configure("info")  # as in production: the library's own way to show a traceback takes longer than most tests


def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are processors: tests of processes wait for these a good part of their time."""
    return max(2, (os.cpu_count() or 1) * 3 // 2)


def pytest_report_header() -> list[str]:
    """Say what is tested and what can't be: here, since of what runs in parallel only this is heard."""
    mlx = "mlx" if find_spec("mlx_lm") else "no mlx"
    ollama = "a real Ollama" if BINARY.exists() else "no real Ollama"
    bwrap = sandbox.working(None) or "none, since bubblewrap does not work here: limits and refusals only"
    said = [f"back ends: local, {mlx}, {ollama}", f"sandbox: {bwrap}"]
    if not docker_answers():
        said.append("contract: skipped in containers, since no Docker engine answers")
    return said


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests counted."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")


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


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real database server: the one of VICTORIA_POSTGRES_URL, else an embedded one of this test session."""
    with database_server(tmp_path_factory.mktemp("database")) as url:
        yield url


@pytest.fixture
async def database(database_url: str, prefix: str) -> AsyncIterator[Database]:
    """Migrated tables of the test's own; they are dropped afterwards."""
    database = Database(database_url, prefix)
    await migrate(database)
    yield database
    async with database.connection() as connection:
        await connection.execute(f"DROP SCHEMA IF EXISTS {quoted(database.schema)} CASCADE")
    await database.close()


@pytest.fixture(scope="session")
def model_file() -> Path:
    """The embedded model, fetched at most once for all runs: into the user's own cache."""
    return ensure_model(platformdirs.user_cache_path("victoria"))


@pytest.fixture(scope="session")
def ollama_models(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for real Ollamas, with the embedded model as `smol`."""
    folder = tmp_path_factory.mktemp("ollama")
    with real_ollama(folder) as server:
        server.create(model_file)
    return folder


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
