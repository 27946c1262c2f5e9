"""Models in this process are there before they are loaded, and loaded when they are first needed."""

from pathlib import Path

import pytest

from llm.engine import Engine, Generation
from llm.pool import Pool
from llm.router import Needs
from llm.scripted import ScriptedEngine
from llm.sources import FileSource, Ready
from schemas.errors import CouldNotStart
from schemas.inference import ChatMessage

ASKED = Generation((ChatMessage("user", "Hello?"),), 20, 5.0)
GONE = CouldNotStart("model.missing", "There is no such file.", "Name another.")


def source(*, fails: bool = False) -> tuple[FileSource, list[Path]]:
    loaded: list[Path] = []

    async def find() -> Path:
        if fails:
            raise GONE
        return Path("m.gguf")

    async def load(path: Path) -> Engine:
        loaded.append(path)
        return ScriptedEngine(lambda _request: "from the file")

    return FileSource("local", "m", 2, 8192, 100, find, load), loaded


async def test_a_file_is_offered_at_once_and_loaded_by_the_first_question() -> None:
    file, loaded = source()
    pool = Pool([file])
    (model,) = await file.models()
    assert (model.name, model.loaded, model.context, model.size) == ("m", False, 8192, 100)
    assert loaded == []
    for _ in range(2):
        assert (await pool.answer(ASKED, Needs(schema=True))).text == "from the file"
    assert loaded == [Path("m.gguf")]
    (model,) = await file.models()
    assert (model.loaded, model.context, model.loaded_context) == (True, 4096, 4096)
    await pool.close()


async def test_it_can_be_loaded_ahead_and_what_is_wrong_with_it_is_told_then() -> None:
    file, loaded = source()
    pool = Pool([file])
    await pool.load()
    assert loaded == [Path("m.gguf")]
    await pool.close()
    broken, _ = source(fails=True)
    with pytest.raises(CouldNotStart, match="no such file"):
        await Pool([broken]).load()


async def test_an_engine_that_is_there_is_a_source_by_itself() -> None:
    engine = ScriptedEngine(["x"], slots=3)
    ready = Ready("mlx", engine)
    (model,) = await ready.models()
    assert (model.engine, model.name, model.loaded, ready.slots) == ("mlx", "scripted", True, 3)
    pool = Pool([ready])
    assert (await pool.answer(ASKED, Needs())).text == "x"
    await pool.close()
    assert engine.closed
