"""saq on Redis: 50 jobs at once, results not kept.

python drain.py URL COUNT; prints one JSON line.
"""

import asyncio
import json
import logging
import os
import sys
import time

import uvloop
from saq import Queue, Worker

PAYLOAD = "check the page and fix it " * 4
AT_ONCE = int(sys.argv[3]) if len(sys.argv) > 3 else 50


async def main(url: str, count: int) -> None:
    logging.disable(logging.WARNING)
    queue = Queue.from_url(url, max_concurrent_ops=AT_ONCE)
    left, done = count, asyncio.Event()

    async def handle(_ctx: dict, *, goal: str) -> None:
        nonlocal left
        left -= bool(goal)
        if not left:
            done.set()

    await queue.connect()
    for _ in range(count):
        await queue.enqueue("handle", goal=PAYLOAD, ttl=-1)
    worker = Worker(queue, [("handle", handle)], concurrency=AT_ONCE)
    worker.SIGNALS = []
    started = time.perf_counter()
    working = asyncio.create_task(worker.start())
    await done.wait()
    elapsed = time.perf_counter() - started
    working.cancel()
    print(json.dumps({"per_s": count / elapsed, "how": f"{AT_ONCE} jobs at once, results not kept"}), flush=True)
    os._exit(0)  # what the worker does to end in order is not measured


uvloop.run(main(sys.argv[1], int(sys.argv[2])))
