"""streaq: 256 tasks at once, results not kept, on uvloop.

python drain.py URL COUNT; prints one JSON line.
"""

import json
import logging
import os
import sys
import time

import anyio
from streaq import Worker

PAYLOAD = "check the page and fix it " * 4
AT_ONCE = int(sys.argv[3]) if len(sys.argv) > 3 else 256


async def main(url: str, count: int) -> None:
    logging.disable(logging.WARNING)
    worker = Worker(redis_url=url, concurrency=AT_ONCE, prefetch=AT_ONCE, handle_signals=False)
    left, done = count, anyio.Event()

    @worker.task(ttl=0, timeout=None)
    async def handle(_goal: str) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    async with worker:
        for _ in range(0, count, 500):
            await worker.enqueue_many([handle.enqueue(PAYLOAD) for _ in range(min(500, count))])
    async with anyio.create_task_group() as tasks:
        started = time.perf_counter()
        tasks.start_soon(worker.run_async)
        await done.wait()
        elapsed = time.perf_counter() - started
        print(json.dumps({"per_s": count / elapsed, "how": f"{AT_ONCE} tasks at once, results not kept"}), flush=True)
        os._exit(0)  # what the worker does to end in order is not measured


anyio.run(main, sys.argv[1], int(sys.argv[2]), backend_options={"use_uvloop": True})
