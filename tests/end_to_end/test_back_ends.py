"""The same run on each back end, chosen by VICTORIA_MODEL or by what there is, in processes as users start them; and
what becomes of it when the one that answers is killed in the middle."""

from collections.abc import Iterator
from pathlib import Path
from socket import gethostname

import pytest

from consumers.offers import Board
from schemas.advice import advice
from schemas.events import RunFinished
from streams.journal import Journal, Record
from tests.end_to_end.conftest import Processes
from tests.llm.real_ollama import RealOllama, needs_ollama, real_ollama
from tests.workshop import eventually

STAGES = ("understand", "plan", "step-execute", "aggregate")
GOAL = "What is a Redis stream?"
WITHIN = 300.0


@pytest.fixture
def ollama(ollama_models: Path) -> Iterator[RealOllama]:
    """A server that a test may kill."""
    with real_ollama(ollama_models) as server:
        yield server


async def start(processes: Processes, model: str, *engines: str, hosts: str = "") -> None:
    """Start the stages, and each engine's inference consumer."""
    processes.environ |= {"VICTORIA_MODEL": model, "OLLAMA_HOSTS": hosts, "VICTORIA_OLLAMA_CONTEXT": "2048"}
    consumers = [f"infer.{engine}" for engine in engines]
    processes.start(*STAGES)
    for consumer in consumers:
        processes.start(consumer)
    await processes.ready(*STAGES, *consumers)


async def finished(processes: Processes, run: str) -> RunFinished:
    """How a run ended, once it has."""

    async def ends() -> list[RunFinished]:
        seen = [entry.envelope for entry in await processes.workshop.entries("results") if entry.envelope]
        return [each.body for each in seen if each.run == run and isinstance(each.body, RunFinished)]

    await eventually(ends, WITHIN)
    (end,) = await ends()
    return end


async def answers(processes: Processes, run: str) -> dict[str, list[Record]]:
    """A run's questions by name, each with the records of its tries."""
    workshop = processes.workshop
    found: dict[str, list[Record]] = {}
    for effect, record in sorted((await Journal(workshop.client, workshop.keys).everything(run)).items()):
        if record.kind == "ask":
            found.setdefault(effect.partition("/")[2].partition(".")[0], []).append(record)
    return found


async def speaks(processes: Processes, run: str) -> None:
    """Wait until a model has said the first words of an answer."""
    workshop = processes.workshop
    await eventually(lambda: workshop.client.exists(workshop.keys.feed(run)), WITHIN)


async def working_node(processes: Processes) -> str:
    """The node that has a question in hand."""
    workshop = processes.workshop
    offers = await Board(workshop.client, workshop.keys).offers(fresh=True)
    (node,) = [offer.model.node for offer in offers if offer.in_flight]
    return node


def assert_answered_by(end: RunFinished, model: str, node: str) -> None:
    assert (end.status, end.method) == ("completed", "simple")
    assert "stream" in end.output.lower()
    assert (end.metadata.model, end.metadata.node) == (model, node)
    assert end.metadata.tokens_in > 50
    assert end.metadata.tokens_out > 10


def assert_answered_once(asked: dict[str, list[Record]]) -> None:
    assert asked.keys() == {"understand", "answer"}
    for records in asked.values():
        assert [record.error for record in records].count(None) == 1
        assert records[-1].error is None


SMOL = "SmolLM2-135M-Instruct"


@pytest.mark.parametrize("model", [pytest.param(each, marks=pytest.mark.heavy) for each in ("local", "mlx")])
async def test_a_run_completes_on_the_engine_that_is_named(processes: Processes, model: str) -> None:
    await start(processes, model, model)
    (run,) = await processes.workshop.publish(GOAL)
    assert_answered_by(await finished(processes, run), SMOL, f"{model}@{gethostname()}")
    assert_answered_once(await answers(processes, run))
    assert set(processes.stop_all().values()) == {0}


async def test_a_run_completes_without_a_model(processes: Processes) -> None:
    await start(processes, "none")
    (run,) = await processes.workshop.publish(GOAL)
    end = await finished(processes, run)
    assert (end.status, end.method, end.metadata.model) == ("completed", "rules", "none")


@needs_ollama
@pytest.mark.heavy
async def test_a_run_completes_on_the_model_and_server_that_are_named(processes: Processes, ollama: RealOllama) -> None:
    await start(processes, "ollama:smol", "ollama", hosts=ollama.name)
    (run,) = await processes.workshop.publish(GOAL)
    assert_answered_by(await finished(processes, run), "smol:latest", ollama.name)
    assert_answered_once(await answers(processes, run))


@pytest.mark.heavy
@needs_ollama
async def test_runs_go_to_ollama_while_it_is_there_and_then_to_the_embedded_model(
    processes: Processes, ollama: RealOllama
) -> None:
    await start(processes, "auto", "ollama", "local", hosts=ollama.name)
    (first,) = await processes.workshop.publish(GOAL)
    assert_answered_by(await finished(processes, first), "smol:latest", ollama.name)

    ollama.kill()
    _, second = await processes.workshop.publish(GOAL, GOAL)
    assert_answered_by(await finished(processes, second), SMOL, f"local@{gethostname()}")


@pytest.mark.heavy
@needs_ollama
async def test_a_consumer_killed_in_the_middle_of_an_answer_is_replaced(
    processes: Processes, ollama: RealOllama
) -> None:
    await start(processes, "ollama", "ollama", hosts=ollama.name)
    (run,) = await processes.workshop.publish(GOAL)
    await speaks(processes, run)
    victim = processes.running.pop("infer.ollama")
    victim.kill()
    victim.wait()
    assert not (await answers(processes, run)).get("answer"), "it had not ended"
    processes.start("infer.ollama")

    assert_answered_by(await finished(processes, run), "smol:latest", ollama.name)
    asked = await answers(processes, run)
    assert_answered_once(asked)


@pytest.mark.heavy
@needs_ollama
async def test_when_a_server_dies_in_the_middle_of_an_answer_another_one_gives_it(
    processes: Processes, ollama: RealOllama, ollama_models: Path
) -> None:
    with real_ollama(ollama_models) as second:
        servers = {server.name: server for server in (ollama, second)}
        await start(processes, "ollama", "ollama", hosts=",".join(servers))
        (run,) = await processes.workshop.publish(GOAL)
        await speaks(processes, run)
        servers.pop(await working_node(processes)).kill()

        (left,) = servers
        assert_answered_by(await finished(processes, run), "smol:latest", left)
        assert_answered_once(await answers(processes, run))


@pytest.mark.heavy
@needs_ollama
async def test_when_the_only_server_dies_in_the_middle_of_an_answer_its_restart_gives_it(
    processes: Processes, ollama: RealOllama
) -> None:
    await start(processes, "ollama", "ollama", hosts=ollama.name)
    (run,) = await processes.workshop.publish(GOAL)
    await speaks(processes, run)
    ollama.kill()
    workshop = processes.workshop
    await eventually(lambda: workshop.client.exists(workshop.keys.waiting(run)), within=60)
    ollama.start()

    assert_answered_by(await finished(processes, run), "smol:latest", ollama.name)
    asked = await answers(processes, run)
    assert_answered_once(asked)
    *failed, _ = asked["answer"]
    assert {advice(record.error.code) for record in failed if record.error} == {"next node"}
