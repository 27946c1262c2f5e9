"""docket (pydocket): 50 tasks at once (its pool has 100 connections), executions not kept after their end.

Its pause between looks is 250 ms by default, which would bound it to 200 tasks a second: 5 ms here.

python drain.py URL COUNT; prints one JSON line.
"""

import asyncio
import json
import logging
import os
import sys
import time
from datetime import timedelta

from docket import Docket, Worker

PAYLOAD = "check the page and fix it " * 4


async def main(url: str, count: int) -> None:
    logging.disable(logging.WARNING)
    left, done = count, asyncio.Event()

    async def handle(_goal: str) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    async with Docket(name="bench", url=url, execution_ttl=timedelta(0)) as docket:
        docket.register(handle)
        for _ in range(count):
            await docket.add(handle)(PAYLOAD)
        async with Worker(docket, concurrency=50, minimum_check_interval=timedelta(milliseconds=5)) as worker:
            started = time.perf_counter()
            working = asyncio.create_task(worker.run_forever())
            await done.wait()
            elapsed = time.perf_counter() - started
            working.cancel()
            print(
                json.dumps(
                    {"per_s": count / elapsed, "how": "50 tasks at once, polls every 5 ms, executions not kept"}
                ),
                flush=True,
            )
            os._exit(0)  # what the worker does to end in order is not measured


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
