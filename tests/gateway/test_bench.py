"""`victoria bench` measures with real workers, says it in one object, and leaves nothing on the server."""

import signal
from pathlib import Path

import anyio
import pytest

from tests.gateway.conftest import Call, Cli, server_of
from tests.workshop import eventually

HOP = {
    "hops_per_s",
    "server_limit_per_s",
    "share_of_limit",
    "server_us_per_hop",
    "cpu_us_per_hop",
    "growth_mib",
    "seconds",
    "events",
    "batch",
    "server",
}
RUN = {"p50_ms", "p99_ms", "runs_per_s", "in_flight", "runs", "latency_runs", "stages", "server"}
PLAN = {"routed_p50_ms", "routed_p99_ms", "goals", "step_s", "steps_s", "times_one", "server"}
INFER = {
    "tokens_per_s",
    "raw_tokens_per_s",
    "share_of_raw",
    "added_p50_ms",
    "cached_share",
    "cached_share_two_stages",
    "scaling",
    "model",
    "questions",
}


def left_behind(cli: Cli) -> list[bytes]:
    """Keys of a measurement that are on the server."""
    with server_of(Path(cli.environ["VICTORIA_STATE_DIR"])) as client:
        return list(client.scan_iter(match="*-bench-*", count=10_000))


def test_the_hop_is_one_object_of_figures(cli: Cli, call: Call) -> None:
    done = call("bench", "hop", "--json", "--events", "2000", "--batch", "64")
    assert done.code == 0, done.err
    figures = done.json()
    assert figures.keys() == HOP
    assert (figures["events"], figures["batch"]) == (2000, 64)
    assert figures["hops_per_s"] > 0
    assert figures["server_limit_per_s"] > 0
    assert figures["share_of_limit"] == pytest.approx(figures["hops_per_s"] / figures["server_limit_per_s"], abs=0.01)
    assert left_behind(cli) == []


def test_runs_are_one_object_of_figures(cli: Cli, call: Call) -> None:
    done = call("bench", "run", "--json", "--runs", "50", "--in-flight", "20")
    assert done.code == 0, done.err
    figures = done.json()
    assert figures.keys() == RUN
    assert (figures["runs"], figures["in_flight"], figures["stages"]) == (50, 20, 5)
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert figures["runs_per_s"] > 0
    assert left_behind(cli) == []


def test_plans_are_one_object_of_figures(cli: Cli, call: Call) -> None:
    done = call("bench", "plan", "--json", "--goals", "20")
    assert done.code == 0, done.err
    figures = done.json()
    assert figures.keys() == PLAN
    assert figures["goals"] == 20
    assert 0 < figures["routed_p50_ms"] <= figures["routed_p99_ms"]
    assert figures["steps_s"] > 0.4, "six steps of 0.2 s, three at once, take two rounds"
    assert left_behind(cli) == []


@pytest.mark.heavy
def test_asking_models_is_one_object_of_figures(cli: Cli, call: Call) -> None:
    done = call("bench", "infer", "--json", "--quick")
    assert done.code == 0, done.err
    figures = done.json()
    assert figures.keys() == INFER
    assert figures["scaling"].keys() == {"1", "2"}
    assert 0 < figures["cached_share"] < 1
    assert figures["tokens_per_s"] > 0
    assert figures["added_p50_ms"] > 0
    assert figures["model"].startswith("SmolLM2")
    assert left_behind(cli) == []


def test_people_read_sentences(call: Call) -> None:
    assert "hops/s in one worker process" in call("bench", "hop", "--events", "100").out
    assert "runs/s with 5 at once" in call("bench", "run", "--runs", "10", "--in-flight", "5").out


async def test_ctrl_c_leaves_nothing_behind(cli: Cli) -> None:
    running = cli.start("bench", "hop", "--events", "1000000")

    async def begun() -> bool:
        return bool(left_behind(cli))

    await eventually(begun, within=20)
    code, printed = await anyio.to_thread.run_sync(running.end, signal.SIGINT)
    assert code == 130, printed
    assert "its keys are removed" in printed
    assert left_behind(cli) == []


@pytest.mark.parametrize(
    "wrong", [["hop", "--events", "0"], ["hop", "--events", "x"], ["run", "--in-flight", "-1"], []]
)
def test_wrong_figures_are_refused(call: Call, wrong: list[str]) -> None:
    assert call("bench", *wrong).code == 2


def test_without_a_server_there_is_an_error_that_says_so(call: Call) -> None:
    done = call("bench", "hop", "--json", "--redis-url", "redis://127.0.0.1:1")
    assert done.code == 5
    assert done.json()["error"]["code"] == "server.unreachable"


def test_what_is_measured_with_is_not_in_the_catalogue(call: Call) -> None:
    assert "bench" not in call("events").out.lower()
