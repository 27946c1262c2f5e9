"""The Ollama engine against a fake server that follows the protocol, with every way it can fail."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from llm.engine import Engine, Generation
from llm.ollama import OllamaEngine
from llm.ollama_node import LINE_LIMIT, Limits
from schemas.advice import advice
from schemas.errors import InvalidInput, ModelFailed
from schemas.inference import ChatMessage
from tests.llm.fake_ollama import Body, FakeOllama, Reply, Script, fake_ollama, hello, shown

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
SHORT = 0.25
"""Seconds, for a limit that a test wants to see reached; every other limit is far away."""


def ask(text: str = "Hi", *, tokens: int = 50, timeout: float = 30, schema: dict[str, Any] | None = None) -> Generation:
    return Generation((ChatMessage("system", "Be brief."), ChatMessage("user", text)), tokens, timeout, schema)


@pytest.fixture
async def fake() -> AsyncIterator[FakeOllama]:
    async with fake_ollama() as fake:
        yield fake


@pytest.fixture
async def engine(fake: FakeOllama) -> AsyncIterator[OllamaEngine]:
    engine = await OllamaEngine.connect(fake.url, "m", slots=2)
    yield engine
    await engine.close()


async def failure(engine: Engine, request: Generation | None = None) -> ModelFailed:
    with pytest.raises(ModelFailed) as raised:
        await engine.generate(request or ask())
    assert raised.value.hint
    return raised.value


def says(*texts: str, reason: str = "stop", **counts: int) -> Script:
    async def script(reply: Reply, _: Body) -> None:
        await reply.begin()
        await reply.say(*texts)
        await reply.done(reason, **counts)

    return script


def refuses(status: int, error: str) -> Script:
    async def script(reply: Reply, _: Body) -> None:
        await reply.json({"error": error}, status)

    return script


async def hangs(_: Reply, __: Body) -> None:
    await asyncio.Event().wait()


async def hangs_after_a_word(reply: Reply, _: Body) -> None:
    await reply.begin()
    await reply.say("Hel")
    await asyncio.Event().wait()


async def test_it_answers_and_says_what_that_cost_and_where(fake: FakeOllama, engine: OllamaEngine) -> None:
    fake.scripts["/api/chat"] = says("Hel", "lo", prompt_eval_cached_count=7)
    contract: Engine = engine
    heard: list[str] = []
    answer = await contract.generate(ask(), heard.append)
    assert (answer.text, heard) == ("Hello", ["Hel", "lo"])
    usage = answer.usage
    assert (usage.model, usage.calls, usage.tokens_in, usage.tokens_out, usage.cached) == ("m:latest", 1, 12, 3, 7)
    assert usage.node == fake.url.removeprefix("http://")
    assert usage.seconds > 0


async def test_what_it_asks_for_loses_no_text_and_reloads_no_model(fake: FakeOllama, engine: OllamaEngine) -> None:
    await engine.generate(ask("a<|im_end|>b"))
    await engine.generate(ask(tokens=9999, schema=SCHEMA))
    free, held = fake.chats
    assert free["messages"][1] == {"role": "user", "content": "a‹|im_end|>b"}
    assert (free["truncate"], free["shift"], free["think"], free["stream"]) == (False, False, False, True)
    assert "format" not in free
    assert held["format"] == SCHEMA
    assert held["options"]["num_predict"] == engine.context == 2048
    assert {body["options"]["num_ctx"] for path, body in fake.asked if path == "/api/chat"} == {2048}


async def test_a_model_thinks_only_if_that_is_wanted_and_it_can(fake: FakeOllama) -> None:
    fake.models = {"m:latest": shown(), "t:1b": shown("thinking")}
    for model, wanted, thinks in (("m", True, False), ("t:1b", False, False), ("t:1b", True, True)):
        engine = await OllamaEngine.connect(fake.url, model, think=wanted)
        await engine.generate(ask())
        assert fake.chats[-1]["think"] is thinks
        await engine.close()


async def test_thoughts_are_no_part_of_the_text(fake: FakeOllama, engine: OllamaEngine) -> None:
    async def thinks(reply: Reply, _: Body) -> None:
        await reply.begin()
        await reply.line(message={"role": "assistant", "content": "", "thinking": "Hm"}, done=False)
        await reply.say("<thi", "nk>Hm?</", "think>\n\n", "Ma", "drid")
        await reply.done()

    fake.scripts["/api/chat"] = thinks
    heard: list[str] = []
    assert (await engine.generate(ask(), heard.append)).text == "Madrid"
    assert heard == ["Ma", "drid"]


async def test_characters_may_be_cut_anywhere_and_are_none_of_them_an_end_of_line(
    fake: FakeOllama, engine: OllamaEngine
) -> None:
    text = "Grüße, 世界 \x85 \u2028 🎉"

    async def drips(reply: Reply, _: Body) -> None:
        whole = b'{"message":{"content":"%s"},"done":false}\r\n\n{"done":true}' % text.encode()
        await reply.begin()
        for byte in whole:
            await reply.piece(bytes([byte]))
        await reply.end()

    fake.scripts["/api/chat"] = drips
    assert (await engine.generate(ask())).text == text


async def test_more_than_slots_wait_their_turn(fake: FakeOllama, engine: OllamaEngine) -> None:
    both = asyncio.Barrier(2)

    async def together(reply: Reply, body: Body) -> None:
        await both.wait()
        await hello(reply, body)

    fake.scripts["/api/chat"] = together
    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(engine.generate, ask())
    assert len(fake.chats) == 6
    assert fake.most_at_once == engine.slots


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (503, "server busy, please try again.  maximum pending requests exceeded", "model.busy"),
        (429, "slow down", "model.busy"),
        (404, "model 'm' not found", "model.missing"),
        (400, "the input length exceeds the context length", "model.overflow"),
        (
            400,
            '{"error":{"code":400,"message":"request (351 tokens) exceeds the available context size (256 tokens)"}}',
            "model.overflow",
        ),
        (400, "invalid format", "model.refused"),
        (403, "no", "model.refused"),
        (500, "model requires more system memory (9.0 GiB) than is available (1.0 GiB)", "model.engine"),
        (502, "bad gateway", "model.unreachable"),
        (302, "elsewhere", "model.engine"),
    ],
)
@pytest.mark.parametrize("where", ["load", "/api/chat"])
async def test_a_status_says_what_is_wrong(
    fake: FakeOllama, engine: OllamaEngine, where: str, status: int, error: str, code: str
) -> None:
    fake.scripts[where] = refuses(status, error)
    found = await failure(engine)
    assert found.code == code
    assert error[:100] in found.message


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("llama runner process has terminated", "model.engine"),
        ("an error: exceed_context_size_error", "model.overflow"),
        ({"code": 500, "message": "odd"}, "model.engine"),
    ],
)
async def test_an_error_in_the_middle_is_a_failure(
    fake: FakeOllama, engine: OllamaEngine, error: object, code: str
) -> None:
    async def breaks(reply: Reply, _: Body) -> None:
        await reply.begin()
        await reply.say("Hel")
        await reply.line(error=error)
        await reply.end()

    fake.scripts["/api/chat"] = breaks
    assert (await failure(engine)).code == code


async def test_an_answer_may_speak_of_errors(fake: FakeOllama, engine: OllamaEngine) -> None:
    fake.scripts["/api/chat"] = says('{"error": "none"}', ' "error"')
    assert (await engine.generate(ask())).text == '{"error": "none"} "error"'


async def test_a_stream_that_ends_too_early_is_a_failure(fake: FakeOllama, engine: OllamaEngine) -> None:
    async def ends(reply: Reply, _: Body) -> None:
        await reply.begin()
        await reply.say("Hel")
        await reply.end()

    async def breaks_off(reply: Reply, _: Body) -> None:
        await reply.begin()
        await reply.say("Hel")

    async def says_nothing(_: Reply, __: Body) -> None: ...

    fake.scripts["/api/chat"] = ends
    assert (await failure(engine)).code == "model.engine"
    for script in (breaks_off, says_nothing):
        fake.scripts["/api/chat"] = script
        assert (await failure(engine)).code == "model.unreachable"


@pytest.mark.parametrize("said", [b"\x00\xff\xfe", b"<html>", b"[1]", b'{"message":"x"}', b"x" * (LINE_LIMIT + 1)])
async def test_garbage_is_a_failure(fake: FakeOllama, engine: OllamaEngine, said: bytes) -> None:
    async def garbage(reply: Reply, _: Body) -> None:
        await reply.begin()
        await reply.piece(said + b"\n")
        await reply.end()

    async def no_http(reply: Reply, _: Body) -> None:
        await reply.raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    for where in ("/api/chat", "load", "/api/chat"):
        fake.scripts[where] = garbage
        assert (await failure(engine)).code == "model.engine"
    fake.scripts["load"] = no_http
    assert (await failure(engine)).code == "model.engine"


@pytest.mark.parametrize(
    ("limits", "where", "script"),
    [
        (Limits(load=SHORT), "load", hangs),
        (Limits(first=SHORT), "/api/chat", hangs),
        (Limits(idle=SHORT), "/api/chat", hangs_after_a_word),
    ],
)
async def test_each_wait_has_a_limit_of_its_own_and_the_server_learns_of_it(
    fake: FakeOllama, limits: Limits, where: str, script: Script
) -> None:
    engine = await OllamaEngine.connect(fake.url, "m", limits=limits)
    fake.scripts[where] = script
    assert (await failure(engine)).code == "model.timeout"
    while not fake.left:
        await anyio.sleep(0.001)
    await engine.close()


async def test_a_slow_load_is_no_slow_answer(fake: FakeOllama) -> None:
    async def slow(reply: Reply, _: Body) -> None:
        await anyio.sleep(4 * SHORT)
        await reply.json({"done": True, "done_reason": "load"})

    engine = await OllamaEngine.connect(fake.url, "m", limits=Limits(first=3 * SHORT))
    fake.scripts["load"] = slow
    assert (await engine.generate(ask())).text == "Hello"
    await engine.close()


@pytest.mark.parametrize("where", ["load", "/api/chat"])
async def test_a_requests_own_time_ends_whatever_hangs(fake: FakeOllama, engine: OllamaEngine, where: str) -> None:
    fake.scripts[where] = hangs
    found = await failure(engine, ask(timeout=SHORT))
    assert found.code == "model.timeout"
    assert f"{SHORT:g} s" in found.message
    fake.scripts.update({"load": FakeOllama().scripts["load"], "/api/chat": hello})
    assert (await engine.generate(ask())).text == "Hello"


async def test_cancelling_closes_the_stream(fake: FakeOllama, engine: OllamaEngine) -> None:
    async def generating(heard: anyio.Event) -> None:
        await engine.generate(ask(), lambda _: heard.set())

    fake.scripts["/api/chat"] = hangs_after_a_word
    async with anyio.create_task_group() as group:
        heard = anyio.Event()
        group.start_soon(generating, heard)
        await heard.wait()
        group.cancel_scope.cancel()
    heard = anyio.Event()
    bare = asyncio.create_task(generating(heard))
    await heard.wait()
    bare.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bare
    while fake.left < 2:
        await anyio.sleep(0.001)


async def test_a_listener_that_fails_closes_the_stream(fake: FakeOllama, engine: OllamaEngine) -> None:
    def deaf(_: str) -> None:
        raise KeyError("deaf")

    fake.scripts["/api/chat"] = hangs_after_a_word
    with pytest.raises(KeyError, match="deaf"):
        await engine.generate(ask(), deaf)
    while not fake.left:
        await anyio.sleep(0.001)


async def test_an_answer_without_room_is_an_overflow(fake: FakeOllama, engine: OllamaEngine) -> None:
    fake.scripts["/api/chat"] = says("Once", reason="length", eval_count=30)
    assert (await failure(engine, ask(tokens=50))).code == "model.overflow"


async def test_cut_json_is_a_failure_and_cut_text_is_not(fake: FakeOllama, engine: OllamaEngine) -> None:
    fake.scripts["/api/chat"] = says("Once", reason="length", eval_count=50)
    assert (await engine.generate(ask(tokens=50))).text == "Once"
    assert (await failure(engine, ask(tokens=50, schema=SCHEMA))).code == "model.cut"
    fake.scripts["/api/chat"] = says("<think>Hm", reason="length", eval_count=50)
    assert (await failure(engine, ask(tokens=50))).code == "model.cut"


async def test_where_a_schema_is_not_heeded_a_fence_is_taken_off_and_the_rest_is_for_the_asker_to_judge(
    fake: FakeOllama, engine: OllamaEngine
) -> None:
    fake.scripts["/api/chat"] = says('```json\n{"a"', ": 1}\n```")
    assert (await engine.generate(ask(schema=SCHEMA))).text == '{"a": 1}'
    fake.scripts["/api/chat"] = says("Sure! a is 1.")
    assert (await engine.generate(ask(schema=SCHEMA))).text == "Sure! a is 1."


async def test_closing_ends_what_runs_and_refuses_what_comes(fake: FakeOllama, engine: OllamaEngine) -> None:
    fake.scripts["/api/chat"] = hangs_after_a_word
    codes: list[str] = []
    heard = anyio.Event()

    async def one() -> None:
        try:
            await engine.generate(ask(), lambda _: heard.set())
        except ModelFailed as problem:
            codes.append(problem.code)

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await heard.wait()
        await engine.close()
    assert codes == ["model.engine"]
    await engine.close()
    assert (await failure(engine)).code == "model.engine"


async def test_nobody_there_is_said_as_it_is(fake: FakeOllama) -> None:
    with pytest.raises(ModelFailed) as raised:
        await OllamaEngine.connect("127.0.0.1:1", "m")
    assert raised.value.code == "model.unreachable"
    with pytest.raises(ModelFailed) as raised:
        await OllamaEngine.connect(fake.url, "other")
    assert raised.value.code == "model.missing"
    assert "ollama pull other" in raised.value.hint
    for url in ("ftp://x", "http://", "http://x:port"):
        with pytest.raises(InvalidInput):
            await OllamaEngine.connect(url, "m")


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("model.unreachable", "next node"),
        ("model.engine", "next node"),
        ("model.timeout", "next node"),
        ("model.busy", "back off"),
        ("model.overflow", "larger model"),
        ("model.missing", "rescan"),
        ("model.cut", "other model"),
        ("model.refused", "no retry"),
        ("step.unheard_of", "no retry"),
    ],
)
def test_a_code_says_what_to_do_next(code: str, what: str) -> None:
    assert advice(code) == what
