"""Async tests run on asyncio, as the product does; a workshop for those that need a server."""

import pytest

from streams.connection import Client
from streams.keys import Keys
from tests.workshop import Workshop


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def workshop(client: Client, prefix: str) -> Workshop:
    """The test's own streams."""
    return Workshop(client, Keys(prefix))
