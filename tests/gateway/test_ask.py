"""`victoria ask` asks by the way of the stages' questions, says what it cost, and leaves nothing behind."""

import asyncio
import json
import re
import signal
import time
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest

from tests.gateway.conftest import WITHIN, Call, Cli, server_of
from tests.llm.fake_ollama import Body, FakeOllama, Reply
from tests.workshop import eventually

SHAPE = {
    "type": "object",
    "properties": {"city": {"type": "string", "minLength": 3}},
    "required": ["city"],
    "additionalProperties": False,
}


def left_behind(cli: Cli) -> dict[str, int]:
    """Keys of questions that are on the server, with the seconds they have left."""
    with server_of(Path(cli.environ["VICTORIA_STATE_DIR"])) as client:
        return {key.decode(): client.ttl(key) for key in client.scan_iter(match="*ask-*", count=10_000)}


@pytest.fixture
def at(ollama: FakeOllama) -> dict[str, str]:
    return {"VICTORIA_MODEL": "ollama", "OLLAMA_HOSTS": ollama.url}


def says(ollama: FakeOllama, *answers: str) -> None:
    """The model's answers, one after the other."""
    coming = iter(answers)

    async def script(reply: Reply, _: Body) -> None:
        await reply.begin()
        await reply.say(next(coming))
        await reply.done(prompt_eval_cached_count=7)

    ollama.scripts["/api/chat"] = script


def test_the_answer_is_printed_and_below_it_what_it_cost(
    call: Call, cli: Cli, ollama: FakeOllama, at: dict[str, str]
) -> None:
    before = left_behind(cli).keys()
    says(ollama, "A log.")
    done = call("ask", "What is a stream?", "--system", "Be brief.", "--max-tokens", "9", **at)
    where = ollama.url.removeprefix("http://")
    assert (done.code, done.out) == (0, "A log.\n"), done.err
    facts = rf"m:latest · {where} · 12 tokens in \(7 cached\), 3 out · \d+\.\d\d s · tries 1\n"
    assert re.search(facts, done.err)
    (asked,) = ollama.chats
    assert [message["content"] for message in asked["messages"]] == ["Be brief.", "What is a stream?"]
    assert asked["options"]["num_predict"] == 9
    assert left_behind(cli).keys() <= before


def test_an_answer_that_breaks_the_schema_is_repaired(
    call: Call, cli: Cli, ollama: FakeOllama, at: dict[str, str], tmp_path: Path
) -> None:
    shape = tmp_path / "city.json"
    shape.write_text(json.dumps(SHAPE))
    says(ollama, '{"city": "x"}', '{"city": "Kazan"}')
    found = call("ask", "Name a city.", "--schema", str(shape), "--json", **at).json()
    assert (found["answer"], found["tries"], found["tokens_in"]) == ({"city": "Kazan"}, 2, 24)
    assert all(chat["format"] == SHAPE for chat in ollama.chats)
    assert "minLength" in ollama.chats[0]["messages"][0]["content"], "not every engine holds its model to a schema"
    assert "(at city)" in ollama.chats[1]["messages"][1]["content"]
    assert all(key.rpartition(":")[0].endswith(":run") and seconds > 0 for key, seconds in left_behind(cli).items())


def test_an_answer_that_is_never_valid_is_an_error(
    call: Call, ollama: FakeOllama, at: dict[str, str], tmp_path: Path
) -> None:
    shape = tmp_path / "city.json"
    shape.write_text(json.dumps(SHAPE))
    says(ollama, "Kazan", "Kazan!")
    done = call("ask", "Name a city.", "--schema", str(shape), "--json", **at)
    assert (done.code, done.json()["error"]["code"]) == (1, "model.invalid")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "schema.unreadable"),
        ("hello", "schema.invalid"),
        ("[]", "schema.invalid"),
        ('{"type": "strin"}', "schema.invalid"),
        ('{"$ref": "https://127.0.0.1:1/x"}', "schema.invalid"),
        (" " * 300_000, "schema.invalid"),
    ],
)
def test_a_schema_that_is_none_is_refused_before_anything_starts(
    call: Call, tmp_path: Path, text: str | None, code: str
) -> None:
    shape = tmp_path / "shape.json"
    if text is not None:
        shape.write_text(text)
    done = call("ask", "x", "--schema", str(shape), "--json", VICTORIA_STATE_DIR=str(tmp_path / "none"))
    assert (done.code, done.json()["error"]["code"]) == (2, code)
    assert not (tmp_path / "none").exists()


def test_the_embedded_model_answers_by_a_schema(call: Call, tmp_path: Path) -> None:
    shape = tmp_path / "shape.json"
    shape.write_text('{"type": "object", "properties": {"red": {"type": "boolean"}}, "required": ["red"]}')
    done = call("ask", "Is blood red?", "--schema", str(shape), VICTORIA_MODEL="local")
    assert done.code == 0, done.err
    assert isinstance(json.loads(done.out)["red"], bool)
    assert "SmolLM2-135M-Instruct · in process · " in done.err


def test_a_prompt_that_no_model_has_room_for_is_refused_not_cut(
    call: Call, ollama: FakeOllama, at: dict[str, str]
) -> None:
    done = call("ask", "word " * 20_000, **at)
    assert (done.code, "[model.overflow]" in done.err) == (1, True)
    assert ollama.chats == []


def test_on_a_terminal_the_answer_comes_word_by_word_and_once(cli: Cli, ollama: FakeOllama, at: dict[str, str]) -> None:
    async def slowly(reply: Reply, _: Body) -> None:
        await reply.begin()
        await reply.say("A stream ")
        await asyncio.sleep(0.5)
        await reply.say("is a log.")
        await reply.done()

    ollama.scripts["/api/chat"] = slowly
    shown = cli.on_terminal("ask", "What is a stream?", NO_COLOR="1", **at)
    assert shown.count("A stream is a log.") == 1, shown
    assert "tries 1" in shown


def test_interrupted_it_stops_the_model_and_what_is_left_goes_by_itself(
    cli: Cli, ollama: FakeOllama, at: dict[str, str]
) -> None:
    async def never(reply: Reply, _: Body) -> None:
        await reply.begin()
        await reply.say("Well")
        await asyncio.sleep(60)

    async def chats() -> bool:
        return bool(ollama.chats)

    async def left() -> bool:
        return ollama.left > 0

    ollama.scripts["/api/chat"] = never
    asking = cli.start("ask", "x", "--json", stdin=DEVNULL, **at)
    asyncio.run(eventually(chats))
    code, printed = asking.end(signal.SIGINT)
    assert (code, json.loads(printed.splitlines()[-1])["error"]["code"]) == (130, "interrupted")
    asyncio.run(eventually(left))
    assert all(seconds > 0 for seconds in left_behind(cli).values())


def test_a_run_on_a_terminal_shows_the_last_words_of_an_answer_as_it_comes(
    cli: Cli, ollama: FakeOllama, at: dict[str, str]
) -> None:
    async def slowly(reply: Reply, _: Body) -> None:
        await reply.begin()
        await reply.say("A stream ")
        await asyncio.sleep(0.6)
        await reply.say("is a log.")
        await reply.done()

    ollama.scripts["/api/chat"] = slowly
    shown = cli.on_terminal("run", "What is a Redis stream?", **at)
    assert "step 1 … A stream" in shown, shown
    assert f"model m:latest at {ollama.url.removeprefix('http://')}" in shown


def test_status_says_for_which_model_a_run_waits(cli: Cli, call: Call, prefix: str) -> None:
    at = {"VICTORIA_PREFIX": prefix, "VICTORIA_MODEL": "ollama", "OLLAMA_HOSTS": "127.0.0.1:1"}
    stages = "understand", "plan", "step-execute", "aggregate", "delegate", "clock"
    cli.start("worker", *stages, stdin=DEVNULL, **at).until("ready")
    run_id = call("publish", "What is a Redis stream?", **at).out.strip()
    found: dict[str, Any] = {}
    give_up = time.monotonic() + WITHIN
    while "error" not in found and time.monotonic() < give_up:
        found = call("status", run_id, "--json", **at).json()
    assert found["error"]["code"] == "model.absent"
    assert "no worker for infer.ollama: start them" in found["waits_for"]
    assert "No inference consumer offers ollama." in found["waits_for"]
    assert "waits no worker for infer.ollama: start" in call("status", run_id, **at).out
