"""Traces and figures of processes as users start them."""

import re
import signal
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.gateway.conftest import Call, Cli, call, cli, shared
from tests.gateway.door import start
from tests.observed.collector import Collector, collecting
from tests.observed.exposition import faults
from tests.workshop import eventually

__all__ = ["call", "cli", "shared"]

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def away() -> Iterator[Collector]:
    """A collector for other processes."""
    with collecting() as found:
        yield found


def test_a_port_that_is_taken_is_said_before_anything_is_started(call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = call("worker", "understand", "--metrics-port", str(port))
    assert done.code == 3
    assert "metrics.port" in done.err
    assert "--metrics-port" in done.err


@pytest.mark.heavy
async def test_one_trace_shows_a_run_across_a_door_and_two_workers_with_the_right_parents(
    cli: Cli, away: Collector
) -> None:
    told: dict[str, Any] = {
        "VICTORIA_OTEL": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": away.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first = cli.start("worker", "understand", "plan", "aggregate", "--metrics-port", str(port), **told)
    second = cli.start("worker", "step-execute", "memory-compress", "remember", **told)
    found = re.search(r"figures: (http://\S+)", first.until("figures: "))
    assert found
    for each in (first, second):
        each.until("ready: ")
    door = start(cli, "--alone", **told)
    body = {"goal": "List the files in the folder docs", "async_mode": 0}
    said = door.post("/run", body, traceparent=f"00-{TRACE}-{PARENT}-01")
    assert said.status_code == 200
    assert "alpha.txt" in said.json()["output"]

    async def whole() -> bool:
        return {"POST /run", "process step-execute", "execute_tool list_directory"} <= {s.name for s in away.of(TRACE)}

    await eventually(whole, 20)
    async with httpx.AsyncClient(trust_env=False) as client:
        figures = (await client.get(found[1])).text
    assert list(faults(figures)) == []
    assert 'victoria_stage_entries_total{outcome="handled",stage="understand"} 1.0' in figures
    for each in (door.running, first, second):
        assert each.end(signal.SIGTERM)[0] == 0
    spans = {span.id: span for span in away.of(TRACE)}
    assert len({span.process for span in spans.values()}) == 3
    roots = [span for span in spans.values() if span.parent not in spans]
    assert [(span.name, span.parent) for span in roots] == [("POST /run", PARENT)]
    chain, at = list[str](), next(span for span in spans.values() if span.name == "execute_tool list_directory")
    processes = [at.process]
    while at.parent in spans:
        at = spans[at.parent]
        chain.append(at.name)
        processes.append(at.process)
    assert chain[-3:] == ["process intake", "send intake", "POST /run"]
    assert chain[0] == "process step-execute"
    assert len(dict.fromkeys(processes)) == 3, "from a door to a worker to another"
