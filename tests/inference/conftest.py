"""Real engines behind their real consumers: questions go through the streams, as a stage's do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.connection import Client
from streams.keys import Keys
from tests.inference.asking import Room
from tests.llm.real_ollama import RealOllama, real_ollama


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def room(client: Client, prefix: str) -> Room:
    """The test's own streams, with nobody at work."""
    return Room(client, Keys(prefix))


@pytest.fixture(scope="session")
def ollama(ollama_models: Path) -> Iterator[RealOllama]:
    """A real server of this test session."""
    with real_ollama(ollama_models) as server:
        yield server


@pytest.fixture
def hosts(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The settings by which a back end of the test's parameters is found."""
    if request.node.callspec.params["backend"] != "ollama":
        return {}
    server: RealOllama = request.getfixturevalue("ollama")
    return {"ollama_hosts": server.name, "ollama_slots": 2}
