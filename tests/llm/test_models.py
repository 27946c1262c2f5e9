"""How models are named, by people and by back ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.models import Model, Wish, display_name, full_name


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("auto", Wish()),
        ("none", Wish("none")),
        ("local", Wish("local")),
        ("mlx", Wish("mlx")),
        ("ollama", Wish("ollama")),
        ("ollama:llama3.3:70b", Wish("ollama", "llama3.3:70b")),
        ("llama3.3:70b", Wish("", "llama3.3:70b")),
        ("hf.co/a/b:Q4", Wish("", "hf.co/a/b:Q4")),
        ("local:/models/SmolLM2-135M-Instruct.Q4_1.gguf", Wish("local", "SmolLM2-135M-Instruct")),
        ("mlx:/models/Qwen3-32B-4bit/", Wish("mlx", "Qwen3-32B-4bit")),
    ],
)
def test_a_wish_is_a_back_end_a_model_or_both(text: str, wish: Wish) -> None:
    assert Wish.parse(text) == wish


@pytest.mark.parametrize(
    ("wish", "accepted", "refused"),
    [
        ("auto", [("ollama", "a"), ("local", "b")], []),
        ("none", [], [("ollama", "a"), ("local", "b")]),
        ("ollama", [("ollama", "a")], [("local", "a")]),
        ("ollama:a", [("ollama", "a:latest"), ("ollama", "a")], [("ollama", "a:70b"), ("mlx", "a")]),
        ("a:70b", [("ollama", "a:70b"), ("mlx", "a:70b")], [("ollama", "a")]),
    ],
)
def test_a_wish_accepts_what_it_names_and_nothing_else(
    wish: str, accepted: list[tuple[str, str]], refused: list[tuple[str, str]]
) -> None:
    for engine, name in (*accepted, *refused):
        assert Wish.parse(wish).accepts(Model(engine, "", name, 0, 0)) == ((engine, name) in accepted)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/models/SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct"),
        ("Llama-3-8B-IQ2_XS.gguf", "Llama-3-8B"),
        ("gemma-2b-BF16.GGUF", "gemma-2b"),
        ("plain.gguf", "plain"),
        ("/models/Qwen3-32B-4bit", "Qwen3-32B-4bit"),
    ],
)
def test_a_file_is_called_by_its_model(path: str, name: str) -> None:
    assert display_name(path) == name


@given(st.text(st.characters(blacklist_categories=("Cs",))))
def test_no_wish_is_too_strange(text: str) -> None:
    assert str(Wish.parse(text))
    assert full_name(full_name(text)) == full_name(text)
