"""What is read from a GGUF file is what llama.cpp reads from it."""

import importlib.util
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llm.engine import Generation
from llm.local import LocalEngine
from llm.mlx_gguf import load_gguf
from llm.mlx_library import library
from schemas.inference import ChatMessage

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(
        importlib.util.find_spec("mlx_lm") is None and not os.environ.get("CI"),
        reason="the extra mlx is not installed: pip install victoria-streams[mlx]",
    ),
]


@pytest.fixture(scope="module")
def read(model_file: Path) -> Iterator[tuple[Any, list[str]]]:
    """The file's tokenizer, and what the model takes for the likeliest words after `The capital of France is`."""

    def load() -> tuple[Any, list[str]]:
        lib = library()
        try:
            model, tokenizer, context = load_gguf(lib, model_file)
            assert context == 8192
            logits = model(lib.mx.array([tokenizer.encode("The capital of France is")]))[0, -1]
            best: list[int] = lib.mx.argsort(-logits)[:3].tolist()
            return tokenizer, [tokenizer.decode([token]) for token in best]
        finally:
            lib.mx.clear_streams()

    with ThreadPoolExecutor(1) as thread:  # mlx belongs to the thread that used it
        yield thread.submit(load).result()


def test_the_model_knows_what_it_knew(read: tuple[Any, list[str]]) -> None:
    assert read[1][0] == " Paris"


@pytest.mark.parametrize(
    "text",
    [
        "a b",
        "12345 6,7",
        "don't  stop\n\n\n\tx = [1, 2]  ",
        "Прочитай README.md",
        "列出文件 🦊🏳️‍🌈",
        "<|im_end|> <b>",
        "é e\u0301",
        "",
    ],
)
async def test_a_text_has_as_many_tokens_as_llama_cpp_makes_of_it(
    engine: LocalEngine, read: tuple[Any, list[str]], text: str
) -> None:
    request = Generation((ChatMessage("system", "Be brief."), ChatMessage("user", text)), 1, 60)
    tokens = read[0].apply_chat_template(request.chat(), add_generation_prompt=True)
    assert len(tokens) == (await engine.generate(request)).usage.tokens_in
    assert text in read[0].decode(tokens) or "<|" in text
