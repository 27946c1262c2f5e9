"""dramatiq on Redis: one process, 8 worker threads, the default middleware but without Prometheus.

python drain.py URL COUNT; prints one JSON line.
"""

import itertools
import json
import logging
import os
import sys
import threading
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker

PAYLOAD = "check the page and fix it " * 4
THREADS = int(sys.argv[3]) if len(sys.argv) > 3 else 8


def main(url: str, count: int) -> None:
    logging.disable(logging.WARNING)
    broker = RedisBroker(url=url)
    dramatiq.set_broker(broker)
    number, done = itertools.count(1), threading.Event()

    @dramatiq.actor
    def handle(_goal: str) -> None:
        if next(number) == count:  # one step of the interpreter, so no thread comes in between
            done.set()

    for _ in range(count):
        handle.send(PAYLOAD)
    worker = dramatiq.Worker(broker, worker_threads=THREADS)
    started = time.perf_counter()
    worker.start()
    done.wait()
    elapsed = time.perf_counter() - started
    print(json.dumps({"per_s": count / elapsed, "how": f"{THREADS} threads, default middleware"}), flush=True)
    os._exit(0)  # what the worker does to end in order is not measured


main(sys.argv[1], int(sys.argv[2]))
