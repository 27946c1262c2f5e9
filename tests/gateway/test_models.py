"""`victoria models` says which models there are and how they do; `victoria models pull` has a server fetch one."""

import asyncio
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest

from consumers.offers import Announcement, Board
from deploy.embedded import find
from llm.models import Fault, Model, Offer
from schemas.errors import ErrorInfo
from streams.connection import connect
from streams.keys import Keys
from tests.gateway.conftest import Call, Cli
from tests.llm.fake_ollama import Body, FakeOllama, Reply, shown

NOWHERE = "127.0.0.1:1"


def announce(cli: Cli, prefix: str, *offers: Offer, consumers: int = 1, faults: Sequence[Fault] = ()) -> None:
    """Say that consumers of this process offer this."""

    async def do() -> None:
        client = connect(find(Path(cli.environ["VICTORIA_STATE_DIR"])) or "")
        for number in range(consumers):
            consumer = f"{socket.gethostname()}-{os.getpid()}-{number}"
            said = Announcement(consumer, "ollama", offers, tuple(faults))
            await Board(client, Keys(prefix)).announce(said, 30)
        await client.aclose()

    asyncio.run(do())


def test_what_no_consumer_serves_is_looked_up_and_said_to_be_so(call: Call) -> None:
    done = call("models", VICTORIA_MODEL="local")
    assert (done.code, done.err) == (0, "")
    assert "local · no consumer (victoria worker infer.local)\n" in done.out
    assert "SmolLM2-135M-Instruct     98 MB    4,096  no      closed     schema" in done.out
    (row,) = call("models", "--json", "--model", "local").json()["models"]
    assert (row["engine"], row["node"], row["size"], row["consumers"]) == ("local", "", 98_362_432, 0)


def test_nodes_are_listed_with_their_models_and_those_that_are_silent_with_the_reason(
    call: Call, ollama: FakeOllama
) -> None:
    ollama.models = {
        "deepseek-r1-distill-llama-with-a-long-name:70b": shown("tools", "vision", "thinking"),
        "b:1b": shown(),
    }
    ollama.loaded = [{"name": "b:1b", "context_length": 2048}]
    hosts = {"VICTORIA_MODEL": "ollama", "OLLAMA_HOSTS": f"{ollama.url},me:secret@{NOWHERE}"}
    done = call("models", **hosts)
    where = ollama.url.removeprefix("http://")
    assert done.code == 0
    assert f"ollama at {where} · no consumer (victoria worker infer.ollama)\n  b:1b" in done.out
    assert (
        f"ollama at {NOWHERE} · no consumer (victoria worker infer.ollama)\n    {NOWHERE} can't be reached" in done.out
    )
    assert max(map(len, done.out.splitlines())) <= 80
    found = call("models", "--json", **hosts).json()
    assert [(row["model"], row["loaded"], row["capabilities"]) for row in found["models"]] == [
        ("b:1b", True, ["schema"]),
        ("deepseek-r1-distill-llama-with-a-long-name:70b", False, ["schema", "thinking", "tools", "vision"]),
    ]
    (silent,) = found["unreachable"]
    assert (silent["node"], silent["error"]["code"], silent["consumers"]) == (NOWHERE, "model.unreachable", 0)
    assert "secret" not in done.out + str(found)


def test_a_model_that_several_consumers_offer_is_one_row(call: Call, cli: Cli, prefix: str) -> None:
    model = Model("ollama", "gpu-1:11434", "m:1b", 1_500_000_000, 8192, True, 8192, frozenset({"schema"}))
    down = Model("ollama", "gpu-1:11434", "n:1b", 0, 0)
    broken = ErrorInfo("model.timeout", "It did not say a word.")
    offers = (Offer(model, 2, in_flight=1), Offer(down, 2, in_flight=1, state="open", error=broken))
    gone = Fault("gpu-2:11434", ErrorInfo("model.unreachable", "gpu-2 can't be reached", "Start it."))
    announce(cli, prefix, *offers, consumers=2, faults=[gone])
    at = {"VICTORIA_PREFIX": prefix, "VICTORIA_MODEL": "ollama"}
    found = call("models", "--json", **at).json()
    assert found["models"][0] == {
        "engine": "ollama",
        "node": "gpu-1:11434",
        "model": "m:1b",
        "size": 1_500_000_000,
        "context": 8192,
        "loaded": True,
        "capabilities": ["schema"],
        "state": "closed",
        "error": None,
        "in_flight": 2,
        "slots": 4,
        "consumers": 2,
    }
    assert (found["models"][1]["state"], found["models"][1]["error"]["code"]) == ("open", "model.timeout")
    assert [(each["node"], each["consumers"]) for each in found["unreachable"]] == [("gpu-2:11434", 2)]
    lines = [line.rstrip() for line in call("models", **at).out.splitlines()]
    assert lines == [
        "  model      size  context  loaded  breaker    can",
        "ollama at gpu-1:11434 · 2 of 4 in flight · 2 consumers",
        "  m:1b     1.5 GB    8,192  yes     closed     schema",
        "  n:1b          ?        ?  no      open",
        "    It did not say a word.",
        "ollama at gpu-2:11434 · 2 consumers",
        "    gpu-2 can't be reached Start it.",
    ]
    assert [row["model"] for row in call("models", "--json", "--model", "n:1b", **at).json()["models"]] == ["n:1b"]


def test_a_consumer_at_work_is_counted(call: Call, cli: Cli, ollama: FakeOllama, prefix: str) -> None:
    at = {"VICTORIA_PREFIX": prefix, "VICTORIA_MODEL": "ollama", "OLLAMA_HOSTS": ollama.url}
    cli.start("worker", "infer.ollama", stdin=DEVNULL, **at).until("ready")
    (row,) = call("models", "--json", **at).json()["models"]
    assert (row["model"], row["consumers"], row["slots"], row["state"]) == ("m:latest", 1, 1, "closed")


@pytest.mark.usefixtures("without_mlx")
@pytest.mark.parametrize(
    ("model", "exit_code", "code", "hint"),
    [
        ("ollama", 5, "model.unreachable", "Is its Ollama running?"),
        ("ollama:x:1b", 5, "model.unreachable", "Is its Ollama running?"),
        ("local:gpt-nope", 3, "model.missing", "victoria models --model auto"),
        (f"local:{__file__}", 3, "model.broken", "Name another file"),
        ("mlx", 3, "model.library", "pip install victoria-streams[mlx]"),
    ],
)
def test_what_was_named_and_is_not_there_is_an_error(
    call: Call, model: str, exit_code: int, code: str, hint: str
) -> None:
    done = call("models", "--json", VICTORIA_MODEL=model, OLLAMA_HOSTS=NOWHERE)
    error = done.json()["error"]
    assert (done.code, error["code"]) == (exit_code, code)
    assert hint in error["hint"]


def test_a_node_whose_models_are_known_and_that_answers_no_more_is_unreachable(
    call: Call, cli: Cli, prefix: str
) -> None:
    broken = ErrorInfo("model.unreachable", "gpu-1 can't be reached")
    down = Offer(Model("ollama", "gpu-1:11434", "m:1b", 0, 0), 1, state="open", error=broken)
    announce(cli, prefix, down, faults=[Fault("gpu-1:11434", broken)])
    assert call("models", VICTORIA_PREFIX=prefix, VICTORIA_MODEL="ollama").code == 5


def fetching(ollama: FakeOllama, *more: Body) -> None:
    async def script(reply: Reply, _: Body) -> None:
        await reply.begin()
        for line in more:
            await reply.line(**line)
        await reply.end()

    ollama.scripts["/api/pull"] = script


def test_pull_has_the_first_server_that_answers_fetch_a_model(call: Call, ollama: FakeOllama) -> None:
    half = {"status": "pulling a", "digest": "a", "total": 100_000_000, "completed": 50_000_000}
    fetching(ollama, {"status": "pulling manifest"}, half, half | {"completed": 100_000_000}, {"status": "success"})
    done = call("models", "pull", "new:1b", OLLAMA_HOSTS=f"{NOWHERE},{ollama.url}")
    where = ollama.url.removeprefix("http://")
    assert (done.code, done.out) == (0, f"{where} has new:1b; inference consumers notice within two minutes\n")
    assert f"fetching new:1b at {where}: 50 of 100 MB" in done.err
    assert f"fetching new:1b at {where}: 100 of 100 MB" in done.err
    assert ollama.asked[-1] == ("/api/pull", {"model": "new:1b"})
    result = call("models", "pull", "new:1b", "--node", ollama.url, "--json").json()
    assert (result["model"], result["node"], result["bytes"]) == ("new:1b", where, 100_000_000)


@pytest.mark.parametrize(
    ("line", "hosts", "exit_code", "code"),
    [
        ({"error": "pull model manifest: file does not exist"}, "", 1, "model.missing"),
        ({"error": "no space left on device"}, "", 1, "model.engine"),
        ({}, NOWHERE, 5, "model.unreachable"),
        ({}, "ftp://me:secret@gpu-1", 2, "model.url"),
    ],
)
def test_a_pull_that_fails_says_why(
    call: Call, ollama: FakeOllama, line: dict[str, Any], hosts: str, exit_code: int, code: str
) -> None:
    fetching(ollama, line)
    done = call("models", "pull", "m:1b", "--json", OLLAMA_HOSTS=hosts or ollama.url)
    error = done.json()["error"]
    assert (done.code, error["code"]) == (exit_code, code)
    assert error["hint"]
    assert "secret" not in done.out
