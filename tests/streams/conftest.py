"""A workshop for every stream test."""

import pytest

from streams.connection import Client
from streams.keys import Keys
from tests.workshop import Workshop


@pytest.fixture
def workshop(client: Client, prefix: str) -> Workshop:
    """The test's own streams."""
    return Workshop(client, Keys(prefix))
