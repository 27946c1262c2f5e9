"""Embedders: the bundled one knows three languages; one on Ollama is found, asked and distrusted."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.embedders import Embedders
from deploy.loading import load
from llm.embedding import CHARACTERS, Bundled, OnOllama, Vector
from llm.ollama_node import Node
from schemas.errors import ModelFailed
from tests.llm.fake_ollama import Body, FakeOllama, Reply, fake_ollama, shown


def near(one: Vector, other: Vector) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_what_means_the_same_is_near_in_all_three_languages() -> None:
    embedder = Bundled()
    backup, kopiya, beifen, cat = await embedder.embed(
        ["Where are backups kept?", "Где хранятся резервные копии?", "备份保存在哪里？", "The cat sleeps on the sofa."]
    )
    assert len(backup) == 512
    assert min(near(backup, kopiya), near(backup, beifen), near(kopiya, beifen)) > 0.5
    assert near(backup, cat) < 0.2
    assert await embedder.embed([]) == []
    long, empty = await embedder.embed(["х" * 50_000, ""])
    assert len(long) == len(empty) == 512


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with fake_ollama() as server:
        server.models = {"chatty:latest": shown("completion"), "nomic-embed-text:latest": shown("embedding")}
        yield server


async def embeds(reply: Reply, body: Body) -> None:
    await reply.json({"embeddings": [[1.0, 0.0, 0.5] for _ in body["input"]]})


def embedders(url: str, **settings: str) -> Embedders:
    return Embedders(load({"ollama_hosts": url, **settings}, {}, Path.cwd()).settings)


async def test_a_model_for_it_on_ollama_is_found_and_asked(ollama: FakeOllama) -> None:
    ollama.scripts["/api/embed"] = embeds
    found = embedders(ollama.url)
    assert isinstance(found.present, Bundled), "until it was looked for"
    await found.look()
    assert isinstance(found.present, OnOllama)
    assert found.present.name == "ollama:nomic-embed-text:latest"
    assert await found.present.embed(["a", "x" * 10_000]) == [[1.0, 0.0, 0.5]] * 2
    assert ollama.asked[-1][1]["input"] == ["a", "x" * CHARACTERS]
    await found.close()


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("nomic-embed-text", "ollama:nomic-embed-text:latest"), ("bundled", Bundled.name), ("chatty", Bundled.name)],
)
async def test_the_setting_says_which(ollama: FakeOllama, wanted: str, name: str) -> None:
    found = embedders(ollama.url, embedder=wanted)
    await found.look()
    assert found.present
    assert found.present.name == name
    await found.close()


async def test_there_need_not_be_one(ollama: FakeOllama) -> None:
    found = embedders(ollama.url, embedder="none")
    await found.look()
    assert found.present is None
    assert ollama.asked == []


@pytest.mark.parametrize("said", [{"embeddings": [[1.0]]}, {"embeddings": [[1.0], []]}, {"error": "boom"}, {"x": 1}])
async def test_an_answer_that_makes_no_sense_is_a_failure(ollama: FakeOllama, said: object) -> None:
    async def nonsense(reply: Reply, _: Body) -> None:
        await reply.json(said)

    ollama.scripts["/api/embed"] = nonsense
    node = Node(ollama.url)
    with pytest.raises(ModelFailed):
        await OnOllama(node, "nomic-embed-text").embed(["a", "b"])
    await node.close()
