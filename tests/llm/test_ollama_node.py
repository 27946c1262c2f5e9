"""What a node says of its models, and fetching one, against a fake server that follows the protocol."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from llm.models import Model
from llm.ollama_node import Limits, Node
from schemas.errors import ModelFailed
from tests.llm.fake_ollama import Body, FakeOllama, Reply, Script, fake_ollama, shown


@pytest.fixture
async def fake() -> AsyncIterator[FakeOllama]:
    async with fake_ollama() as fake:
        yield fake


@pytest.fixture
async def node(fake: FakeOllama) -> AsyncIterator[Node]:
    node = Node(fake.url)
    yield node
    await node.close()


def fetches(*lines: Body) -> Script:
    async def script(reply: Reply, _: Body) -> None:
        await reply.begin()
        for line in lines:
            await reply.line(**line)
        await reply.end()

    return script


async def test_a_nodes_models_are_listed_with_what_they_can_do(fake: FakeOllama, node: Node) -> None:
    fake.models = {
        "b:7b": shown("tools", "vision", "thinking", "insert", context=8192),
        "a:latest": shown(format="safetensors"),
        "embed:latest": {**shown(), "capabilities": ["embedding"]},
        "far:cloud": shown(tag={"remote_host": "https://example.com"}),
        "old:latest": {"details": {"format": "gguf"}, "model_info": {}},
    }
    fake.loaded = [{"name": "b:7b", "context_length": 4096}]
    where = fake.url.removeprefix("http://")
    assert await node.models() == (
        Model("ollama", where, "a:latest", 1000, 2048),
        Model("ollama", where, "b:7b", 1000, 8192, True, 4096, frozenset({"schema", "tools", "vision", "thinking"})),
        Model("ollama", where, "old:latest", 1000, 0, capabilities=frozenset({"schema"})),
    )


async def test_looking_again_asks_only_for_what_may_have_changed(fake: FakeOllama, node: Node) -> None:
    await node.models()
    fake.asked.clear()
    assert len(await node.models()) == 1
    assert [path for path, _ in fake.asked] == ["/api/tags", "/api/ps"]


async def test_a_model_that_goes_while_one_looks_is_not_there(fake: FakeOllama, node: Node) -> None:
    async def gone(reply: Reply, _: Body) -> None:
        await reply.json({"error": "model not found"}, 404)

    fake.scripts["/api/show"] = gone
    assert await node.models() == ()
    with pytest.raises(ModelFailed) as raised:
        await node.find("m")
    assert raised.value.code == "model.missing"


@pytest.mark.parametrize("said", ['{"models": 3}', "[]", "hello", "", '{"error": "broken"}'])
async def test_a_server_that_is_no_ollama_is_said_to_be_none(fake: FakeOllama, node: Node, said: str) -> None:
    async def other(reply: Reply, _: Body) -> None:
        await reply.text(said)

    fake.scripts["/api/tags"] = other
    with pytest.raises(ModelFailed) as raised:
        await node.models()
    assert raised.value.code == "model.engine"


async def test_fetching_a_model_tells_how_far_it_is(fake: FakeOllama, node: Node) -> None:
    fake.scripts["/api/pull"] = fetches(
        {"status": "pulling manifest"},
        {"status": "pulling a", "digest": "a", "total": 100, "completed": 40},
        {"status": "pulling b", "digest": "b", "total": 10},
        {"status": "pulling a", "digest": "a", "total": 100, "completed": 100},
        {"status": "verifying sha256 digest"},
        {"status": "success"},
    )
    told: list[tuple[int, int]] = []
    await node.pull("m", lambda done, total: told.append((done, total)))
    assert told == [(40, 100), (40, 110), (100, 110)]
    assert fake.asked[-1] == ("/api/pull", {"model": "m"})


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ({"error": "pull model manifest: file does not exist"}, "model.missing"),
        ({"error": "no space left on device"}, "model.engine"),
        ({"status": "pulling manifest"}, "model.engine"),
    ],
)
async def test_a_fetch_that_fails_says_why(fake: FakeOllama, node: Node, line: dict[str, Any], code: str) -> None:
    fake.scripts["/api/pull"] = fetches({"status": "pulling manifest"}, line)
    with pytest.raises(ModelFailed) as raised:
        await node.pull("m")
    assert raised.value.code == code


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("gpu-1", "gpu-1:11434"),
        ("gpu-1:80", "gpu-1"),
        ("http://gpu-1", "gpu-1"),
        ("http://gpu-1:11434/", "gpu-1:11434"),
        ("https://me:secret@gpu-1:8443/ollama", "gpu-1:8443"),
        ("http://[::1]:11434", "[::1]:11434"),
    ],
)
async def test_an_address_is_understood_as_ollama_does_and_its_password_is_not_told(url: str, name: str) -> None:
    node = Node(url, Limits())
    assert node.name == name
    await node.close()
