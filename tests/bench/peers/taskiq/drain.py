"""taskiq with the stream broker of taskiq-redis: 256 tasks at once, reads of 256, no result back end.

python drain.py URL COUNT; prints one JSON line.
"""

import asyncio
import json
import logging
import os
import sys
import time

import uvloop
from taskiq.api import run_receiver_task
from taskiq_redis import RedisStreamBroker

PAYLOAD = "check the page and fix it " * 4
SETTINGS = {"max_async_tasks": 256, "max_prefetch": 256}


async def main(url: str, count: int) -> None:
    logging.disable(logging.WARNING)
    broker = RedisStreamBroker(url, consumer_id="0", xread_count=256)
    left, done = count, asyncio.Event()

    @broker.task
    async def handle(goal: str) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    await broker.startup()
    for _ in range(count):
        await handle.kiq(PAYLOAD)
    started = time.perf_counter()
    working = asyncio.create_task(run_receiver_task(broker, **SETTINGS))
    await done.wait()
    elapsed = time.perf_counter() - started
    working.cancel()
    print(
        json.dumps({"per_s": count / elapsed, "how": "stream broker, 256 tasks at once, reads of 256, no results"}),
        flush=True,
    )
    os._exit(0)  # what the worker does to end in order is not measured


uvloop.run(main(sys.argv[1], int(sys.argv[2])))
