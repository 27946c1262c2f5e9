"""The Ollama engine against a real server, with the embedded model. `make ollama` builds the server."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from consumers.prefixes import prefixes
from llm.engine import Generation
from llm.ollama import OllamaEngine
from llm.ollama_node import Limits, Node
from llm.prompts import prompt
from schemas.errors import ModelFailed
from schemas.inference import ChatMessage
from tests.llm.questions import Act, ask
from tests.llm.real_ollama import needs_ollama, real_ollama

pytestmark = needs_ollama


LONG: dict[str, Any] = {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 400}


@pytest.fixture(scope="session")
def ollama(ollama_models: Path) -> Iterator[str]:
    """A server of this test session."""
    with real_ollama(ollama_models) as server:
        yield f"http://{server.name}"


@pytest.fixture(scope="session")
async def smol(ollama: str) -> AsyncGenerator[OllamaEngine]:
    engine = await OllamaEngine.connect(ollama, "smol", slots=2, context=1024)
    yield engine
    await engine.close()


async def test_its_models_are_listed(ollama: str, smol: OllamaEngine) -> None:
    node = Node(ollama)
    await smol.generate(ask("Hi.", tokens=1))
    model = await node.find("smol")
    assert (model.name, model.context, model.loaded, model.loaded_context) == ("smol:latest", 8192, True, 1024)
    assert model.size > 90_000_000
    assert "schema" in model.capabilities
    await node.close()


async def test_it_answers_and_says_what_that_cost(smol: OllamaEngine) -> None:
    question = prompt("answer").question(str, context="", goal="What is the capital of Spain?", inputs="")
    messages = (ChatMessage("system", question.system), ChatMessage("user", question.user))
    heard: list[str] = []
    answer = await smol.generate(Generation(messages, 60, 120), heard.append)
    assert "Madrid" in question.parse(answer.text)
    assert "".join(heard) == answer.text
    assert len(heard) > 1
    assert answer.usage.tokens_in > 20
    assert 0 < answer.usage.tokens_out <= 60


@pytest.mark.parametrize("goal", ["What is a Redis stream?", "列出文件", '{"a": "]}'])
async def test_json_of_a_union_type_is_always_valid(smol: OllamaEngine, goal: str) -> None:
    question = prompt("act").question(
        Act, context="", goal=goal, tools="read_file, list_directory, finish", hint="", observations="", max_tokens=400
    )
    messages = (ChatMessage("system", question.system), ChatMessage("user", question.user))
    answer = await smol.generate(Generation(messages, question.max_tokens, 120, question.schema))
    assert isinstance(question.parse(answer.text), Act)


@pytest.mark.heavy
async def test_what_the_stages_ask_for_is_no_trouble_to_it(smol: OllamaEngine) -> None:
    for question in prefixes():
        request = Generation(question.messages, 8, 120, question.schema)
        with suppress(ModelFailed):  # 8 tokens are not all of it
            await smol.generate(request)
    assert (await smol.generate(ask("Hi."))).text, "it is still there"


async def test_a_prompt_that_does_not_fit_fails_instead_of_losing_text(smol: OllamaEngine) -> None:
    with pytest.raises(ModelFailed) as failure:
        await smol.generate(ask("word " * 2000))
    assert failure.value.code == "model.overflow"


async def test_an_answer_that_runs_out_of_context_fails_too(ollama: str) -> None:
    engine = await OllamaEngine.connect(ollama, "smol", context=64)
    heard: list[str] = []
    with pytest.raises(ModelFailed) as failure:
        await engine.generate(ask("Hi.", tokens=500, schema=LONG), heard.append)
    assert failure.value.code == "model.overflow"
    assert heard, "it had begun"
    await engine.close()


async def test_json_that_was_cut_is_a_failure_and_text_is_not(smol: OllamaEngine) -> None:
    with pytest.raises(ModelFailed) as failure:
        await smol.generate(ask("Act.", tokens=5, schema=msgspec.json.schema(Act)))
    assert failure.value.code == "model.cut"
    assert (await smol.generate(ask("Tell a story.", tokens=5))).usage.tokens_out == 5


async def test_a_schema_the_server_refuses_is_a_typed_failure(smol: OllamaEngine) -> None:
    with pytest.raises(ModelFailed) as failure:
        await smol.generate(ask("Hi.", schema={"type": "nonsense"}))
    assert failure.value.code == "model.refused"


@pytest.mark.parametrize("pattern", [r"^\\d{3}$", "^(?!a)b$", "b+"])
async def test_a_pattern_it_can_not_read_does_it_no_harm(smol: OllamaEngine, pattern: str) -> None:
    schema: dict[str, Any] = {"type": "string", "maxLength": 3, "pattern": pattern}
    assert (await smol.generate(ask("Hi.", schema=schema))).text
    assert (await smol.generate(ask("Hi.", tokens=1))).text


async def test_a_model_that_is_gone_is_missing(ollama: str) -> None:
    engine = OllamaEngine(Node(ollama), "none", 1, 1024)
    with pytest.raises(ModelFailed) as failure:
        await engine.generate(ask("Hi."))
    assert failure.value.code == "model.missing"
    await engine.close()


async def test_cancelling_and_time_outs_free_the_servers_slots(smol: OllamaEngine) -> None:
    """Two slots, and answers of minutes: the last question is answered only if the server stopped working on those."""
    story = ask("List letters.", tokens=1000, schema=LONG)
    for _ in range(2):
        async with anyio.create_task_group() as group:
            heard = anyio.Event()

            async def one(heard: anyio.Event = heard) -> None:
                await smol.generate(story, lambda _: heard.set())

            group.start_soon(one)
            await heard.wait()
            group.cancel_scope.cancel()
    with pytest.raises(ModelFailed) as failure:
        await smol.generate(ask("List letters.", tokens=1000, timeout=0.3, schema=LONG))
    assert failure.value.code == "model.timeout"
    assert (await smol.generate(ask("Hi.", tokens=3, timeout=60))).text


async def test_nothing_is_fetched_that_does_not_exist(ollama: str) -> None:
    node = Node(ollama, Limits(load=20))
    with pytest.raises(ModelFailed) as failure:
        await node.pull("127.0.0.1:1/none/none")
    assert failure.value.code in {"model.engine", "model.missing", "model.unreachable"}
    await node.close()
