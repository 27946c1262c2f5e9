"""The embedded model, fetched at most once for all runs: into the user's own cache."""

from collections.abc import AsyncGenerator
from pathlib import Path

import platformdirs
import pytest

from llm.fetch import ensure_model
from llm.local import LocalEngine


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def model_file() -> Path:
    return ensure_model(Path(platformdirs.user_cache_dir("victoria")))


@pytest.fixture(scope="session")
async def engine(model_file: Path) -> AsyncGenerator[LocalEngine]:
    engine = await LocalEngine.load(model_file, slots=2, context=1024)
    yield engine
    await engine.close()
