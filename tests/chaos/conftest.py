"""A server of the test's own, which may be killed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.server import Server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A running server."""
    server = Server(tmp_path / "server", fsync="no")
    await server.start()
    yield server
    await server.kill()
