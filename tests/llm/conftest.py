"""The embedded model at work."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from llm.local import LocalEngine


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def engine(model_file: Path) -> AsyncGenerator[LocalEngine]:
    engine = await LocalEngine.load(model_file, slots=2, context=1024)
    yield engine
    await engine.close()
