"""A row of the requirements is a test on a whole Victoria: see house.py."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from streams.connection import Client
from tests.rows.house import House, Says, at_work

Build = Callable[..., AbstractAsyncContextManager[House]]
"""Gets what the model says, None for no model, a `delay` of its answers, and settings."""


@pytest.fixture
def house(redis_url: str, prefix: str, client: Client, tmp_path: Path) -> Build:
    """Builds a house: `async with house({"answer": "42"}, run_calls=3) as home`."""
    folder = tmp_path / "project"
    folder.mkdir()

    def build(says: Mapping[str, Says] | None = None, **options: Any) -> AbstractAsyncContextManager[House]:
        return at_work(redis_url, prefix, folder, says, **options)

    return build
