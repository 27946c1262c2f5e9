"""The MLX engine with the real model: few tokens each, since a processor makes only some a second."""

import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated, Any, cast

import anyio
import msgspec
import pytest
from anyio import to_thread
from msgspec import Meta

from llm.engine import Engine, Generation
from llm.mlx import MlxEngine
from llm.mlx_batch import EngineDown, Job
from llm.mlx_gguf import load_gguf
from llm.mlx_library import library
from schemas.errors import CouldNotStart, ModelFailed
from schemas.inference import ChatMessage

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mlx_lm") is None and not os.environ.get("CI"),
    reason="the extra mlx is not installed: pip install victoria-streams[mlx]",
)
PICK: dict[str, Any] = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}


def ask(text: str, *, tokens: int = 4, timeout: float = 120.0, schema: dict[str, Any] | None = None) -> Generation:
    return Generation((ChatMessage("system", "Be brief."), ChatMessage("user", text)), tokens, timeout, schema)


pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
async def mlx(model_file: Path) -> AsyncGenerator[MlxEngine]:
    engine = await MlxEngine.load(model_file, slots=4, context=256)
    yield engine
    await engine.close()


async def test_requests_of_all_kinds_share_a_batch_and_answer_as_they_would_alone(mlx: MlxEngine) -> None:
    contract: Engine = mlx
    questions = [
        ask("Capital of France?", tokens=6),
        ask("1 2 3 4", tokens=7),
        ask("Is fire hot?", tokens=20, schema=PICK),
    ]
    alone = [(await contract.generate(question)).text for question in questions]
    pieces: list[str] = []
    together: dict[int, str] = {}

    async def one(number: int) -> None:
        together[number] = (await mlx.generate(questions[number], pieces.append if number == 1 else None)).text

    async def unwanted() -> None:
        with anyio.move_on_after(0.5):
            await mlx.generate(ask("Tell a long story.", tokens=100))

    async with anyio.create_task_group() as group:
        group.start_soon(unwanted)
        for number in range(len(questions)):
            group.start_soon(one, number)
    assert [together[number] for number in range(len(questions))] == alone
    assert "Paris" in alone[0]
    assert isinstance(json.loads(alone[2])["ok"], bool)
    assert "".join(pieces) == alone[1]


class Finish(msgspec.Struct, tag="finish", tag_field="tool"):
    answer: Annotated[str, Meta(max_length=8)]


class ReadFile(msgspec.Struct, tag="read_file", tag_field="tool"):
    path: Annotated[str, Meta(max_length=8)]


class Act(msgspec.Struct):
    thought: Annotated[str, Meta(max_length=8)]
    action: Finish | ReadFile


async def test_json_of_a_union_type_is_valid_for_more_requests_than_there_are_slots(mlx: MlxEngine) -> None:
    goals = ["Read README.md", "Прочитай README.md", "列出文件", '{"a": "]}', "", "Stop."]
    acts: list[Act] = []

    async def one(goal: str) -> None:
        answer = await mlx.generate(ask(goal, tokens=150, timeout=500, schema=msgspec.json.schema(Act)))
        acts.append(msgspec.json.decode(answer.text, type=Act))

    async with anyio.create_task_group() as group:
        for goal in goals:
            group.start_soon(one, goal)
    assert len(acts) == len(goals)


async def test_what_prompts_have_in_common_is_read_once(mlx: MlxEngine) -> None:
    first = await mlx.generate(ask("Say red.", tokens=1))
    second = await mlx.generate(ask("Say blue.", tokens=1))
    assert 8 < second.usage.cached < first.usage.tokens_in


async def test_a_listener_that_fails_ends_its_own_request_only(mlx: MlxEngine) -> None:
    def refuse(_: str) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await mlx.generate(ask("Hi.", tokens=100), refuse)
    assert (await mlx.generate(ask("Hi.", tokens=1))).text


async def test_a_prompt_that_does_not_fit_fails_instead_of_losing_text(mlx: MlxEngine) -> None:
    with pytest.raises(ModelFailed) as failure:
        await mlx.generate(ask("word " * 300))
    assert failure.value.code == "model.overflow"
    assert "256" in failure.value.message


async def test_json_that_was_cut_is_a_failure_and_text_is_not(mlx: MlxEngine) -> None:
    with pytest.raises(ModelFailed) as failure:
        await mlx.generate(ask("Act.", tokens=2, schema=PICK))
    assert failure.value.code == "model.cut"
    assert (await mlx.generate(ask("Act.", tokens=2))).usage.tokens_out == 2


async def test_a_schema_that_makes_no_sense_is_a_typed_failure(mlx: MlxEngine) -> None:
    with pytest.raises(ModelFailed) as failure:
        await mlx.generate(ask("Hi.", schema={"type": "nonsense"}))
    assert failure.value.code == "model.refused"
    assert "JSON schema" in failure.value.message


async def test_timeouts_and_cancelled_tasks_free_their_slots(mlx: MlxEngine) -> None:
    tasks = [asyncio.create_task(mlx.generate(ask("Count.", tokens=200))) for _ in range(mlx.slots)]
    await anyio.sleep(0.2)
    for task in tasks:
        task.cancel()
    assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True))
    with pytest.raises(ModelFailed) as failure:
        await mlx.generate(ask("Count.", tokens=200, timeout=0.2))
    assert failure.value.code == "model.timeout"
    assert (await mlx.generate(ask("Hi.", tokens=1))).text


async def test_after_a_breakdown_everyone_hears_of_it(model_file: Path) -> None:
    mlx = await MlxEngine.load(model_file, slots=4, context=256)
    task = asyncio.create_task(mlx.generate(ask("Count.", tokens=200)))
    await anyio.sleep(0.2)
    poison: Any = ["no token", "either"]
    batch = mlx._batch  # pyright: ignore[reportPrivateUsage] - no request can do this
    batch.submit(Job(poison, 1, None, lambda _: None, lambda _: None))
    for failing in (task, mlx.generate(ask("Hi."))):
        with pytest.raises(EngineDown) as failure:
            await failing
        assert failure.value.retryable
        assert failure.value.code == "model.engine"
    await mlx.close()


async def test_closing_stops_what_runs_and_may_be_done_twice(model_file: Path) -> None:
    engine = await MlxEngine.load(model_file, slots=1, context=256)
    tasks = [asyncio.create_task(engine.generate(ask("Count.", tokens=200))) for _ in range(2)]
    await anyio.sleep(0.2)
    await engine.close()
    await engine.close()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(ended, ModelFailed)
        assert ended.code == "model.engine"


async def test_a_folder_in_the_format_of_mlx_is_the_same_model(
    mlx: MlxEngine, model_file: Path, tmp_path: Path
) -> None:
    await to_thread.run_sync(save_as_folder, model_file, tmp_path / "SmolLM2")
    engine = await MlxEngine.load(tmp_path / "SmolLM2", slots=1)
    try:
        assert engine.model == "SmolLM2"
        answer = await engine.generate(ask("Capital of France?", tokens=2))
    finally:
        await engine.close()
    assert answer.text == (await mlx.generate(ask("Capital of France?", tokens=2))).text


def save_as_folder(model_file: Path, folder: Path) -> None:
    lib = library()
    try:
        model, tokenizer, _ = load_gguf(lib, model_file)
        lib.utils.save_model(folder, model)
        arguments = cast("dict[str, Any]", vars(model.args))
        sizes = {name: value for name, value in arguments.items() if value is not None}
        lib.utils.save_config(sizes | {"eos_token_id": tokenizer.eos_token_id}, folder / "config.json")
        tokenizer.save_pretrained(folder)
    finally:
        lib.mx.clear_streams()


async def test_what_is_no_model_is_said_plainly(model_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with model_file.open("rb") as whole:
        cut.write_bytes(whole.read(5_000_000))
    for path, code in ((tmp_path / "none.gguf", "model.missing"), (cut, "model.broken"), (tmp_path, "model.broken")):
        with pytest.raises(CouldNotStart) as failure:
            await MlxEngine.load(path)
        assert failure.value.code == code


async def test_a_missing_extra_says_what_to_install(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlx_lm.generate", None)
    with pytest.raises(CouldNotStart) as failure:
        await MlxEngine.load(model_file)
    assert failure.value.code == "model.library"
    assert "pip install victoria-streams[mlx]" in failure.value.hint
