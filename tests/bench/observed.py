"""What being observed costs a hop, in instructions: they can be counted, by valgrind, on a machine however busy.

    python -m tests.bench.observed WAY URL PREFIX EVENTS ENDPOINT

is the program that is counted: it takes EVENTS entries off a stream that was filled before.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys

import uvloop
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from deploy.observed.bench import SHARE, sink
from deploy.observed.figures import Figures
from deploy.observed.many import together
from deploy.observed.traces import Traces
from gateway import logs
from gateway.serve import settle_in
from streams.bench import drain, fill
from streams.connection import connect
from streams.keys import Keys
from streams.observer import SILENT
from tests.bench.report import Promise, Section
from tests.bench.valkey import client_of, valkey

BATCH = 256
WAYS = {"off": "nobody listens", "metrics": "metrics", "both": f"metrics, and traces of one run in {1 / SHARE:,.0f}"}
_COUNTED = re.compile(r"I\s+refs:\s+([\d,]+)")


def observed(quick: bool) -> Section:
    """Instructions a hop takes: of many hops, less those of a few, which have the same beginning and end."""
    few, many = (200, 400) if quick else (2_000, 22_000)
    section = Section("observed", "What metrics and traces cost a hop", ("what", "instructions a hop", "more"))
    if not shutil.which("valgrind"):
        section.add("not measured", "needs valgrind", "")
        return section
    counts = dict.fromkeys(WAYS, 0.0)
    with valkey() as url, sink() as endpoint:
        section.server = f"Valkey {client_of(url).info('server')['valkey_version']}"
        for way, name in WAYS.items():
            counts[way] = (_counted(way, many, url, endpoint) - _counted(way, few, url, endpoint)) / (many - few)
            section.add(name, f"{counts[way]:,.0f}", f"{counts[way] / counts['off'] - 1:+.1%}")
    section.promise(Promise.at_most("cost of both", counts["both"] / counts["off"] - 1, 0.05, "{:.1%}"))
    return section


def _counted(way: str, events: int, url: str, endpoint: str) -> int:
    """Instructions of a process that handles so many."""
    prefix = f"{way}-{events}"
    asyncio.run(_fill(way, url, prefix, events, endpoint))
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    command += [sys.executable, "-m", "tests.bench.observed", way, url, prefix, str(events), endpoint]
    # What is exported is exported once, at the end: under valgrind the time until then is no measure.
    environ = os.environ | {"PYTHONHASHSEED": "0", "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    found = _COUNTED.search(done.stderr)
    assert found, done.stderr
    return int(found[1].replace(",", ""))


async def _fill(way: str, url: str, prefix: str, events: int, endpoint: str) -> None:
    client, traces = connect(url), _traces(way, endpoint)
    await fill(client, Keys(prefix), events, _say_nothing, traces or SILENT)
    if traces:
        await asyncio.to_thread(traces.close)
    await client.aclose()


async def _drain(way: str, url: str, prefix: str, events: int, endpoint: str) -> None:
    client, traces = connect(url), _traces(way, endpoint)
    figures = Figures() if way != "off" else None
    settle_in()  # as a worker does
    await drain(client, Keys(prefix), events, BATCH, _say_nothing, together(figures, traces))
    if traces:
        await asyncio.to_thread(traces.close)
    await client.aclose()


def _traces(way: str, endpoint: str) -> Traces | None:
    return Traces(sampler=ParentBased(TraceIdRatioBased(SHARE)), endpoint=endpoint) if way == "both" else None


def _say_nothing(_what: str, _done: int, _of: int) -> None:
    """No progress."""


if __name__ == "__main__":
    logs.configure("warning")
    given_way, given_url, given_prefix, given_events, given_endpoint = sys.argv[1:]
    uvloop.run(_drain(given_way, given_url, given_prefix, int(given_events), given_endpoint))
