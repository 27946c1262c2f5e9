"""FastStream: a stream in, a stream out, by a consumer group; reads of 256, acknowledged one by one as it does.

python drain.py URL COUNT; prints one JSON line.
"""

import asyncio
import json
import os
import sys
import time

import uvloop
from faststream.redis import RedisBroker, StreamSub

PAYLOAD = "check the page and fix it " * 4


async def main(url: str, count: int) -> None:
    broker = RedisBroker(url, logger=None)
    left, done = count, asyncio.Event()

    @broker.subscriber(
        stream=StreamSub("in", group="g", consumer="c", last_id="0", max_records=256), max_workers=WORKERS
    )
    @broker.publisher(stream="out")
    async def handle(goal: str) -> str:
        nonlocal left
        left -= 1
        if not left:
            done.set()
        return goal

    await broker.connect()
    for _ in range(count):
        await broker.publish(PAYLOAD, stream="in")
    started = time.perf_counter()
    await broker.start()
    await done.wait()
    elapsed = time.perf_counter() - started
    print(json.dumps({"per_s": count / elapsed, "how": "stream in and out, group, reads of 256"}), flush=True)
    os._exit(0)  # what the worker does to end in order is not measured


WORKERS = int(sys.argv[3]) if len(sys.argv) > 3 else 1
uvloop.run(main(sys.argv[1], int(sys.argv[2])))
