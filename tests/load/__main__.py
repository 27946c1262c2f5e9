"""`python -m tests.load`: many runs at once, many clients that follow, and doors that die meanwhile. `make load`."""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from random import uniform
from typing import Any

import uvloop

from streams.keys import Keys
from tests.bench.valkey import client_of, valkey
from tests.load.doors import Started, Yard, yard
from tests.load.wire import Sent, Wire, events

BODY = {"goal": "What is a stream?", "strategy": "simple"}
KINDS = ["understood", "plan", "task_start", "task_end", "result"]
P99, MEMORY = 50.0, 300.0
"""What must hold: milliseconds of `POST /run`, and MB of a door with all its clients."""
POLL = 1.0
"""Seconds between a user's looks at the status of a run, give or take half: people don't keep step, whom any delay
would otherwise bring together for good."""
WITHIN = 300.0


async def post(door: str, key: str) -> str:
    """Submit a run; its id."""
    async with await Wire.to(door) as wire:
        taken = await wire.ask("POST", "/run", BODY, Idempotency_Key=key)
    if taken.status != 202:
        raise OSError(f"POST /run is {taken.status}: {taken.body}")
    return taken.body["task_id"]


async def watched(doors: list[str], run: str, begun: Callable[[], None] = lambda: None) -> list[Sent]:
    """All events of a run, at whichever door there is; they have to be in order, and its own."""
    sent: list[Sent] = []
    for attempt in range(600):
        try:
            async with aclosing(events(doors[attempt % len(doors)], run, sent[-1].id if sent else "")) as coming:
                begun()
                async for each in coming:
                    sent.append(each)  # noqa: PERF401 - what came before an error counts
        except (OSError, EOFError, ValueError):
            await asyncio.sleep(0.1)
        if sent and sent[-1].name == "result":
            break
    told, text = [each.name for each in sent if each.name != "token"], ""
    assert told == KINDS, f"run {run}: {told}"
    assert len({each.id for each in sent}) == len(sent), f"run {run} has events twice"
    for each in sent:
        if each.name == "token":
            text = each.data["text"] if each.data["offset"] == 0 else text + each.data["text"]
    assert sent[-1].data["task_id"] == run
    assert sent[-1].data["status"] == "completed"
    assert text == sent[-1].data["output"], f"run {run}: {text!r}"
    return sent


async def many_runs(yard: Yard, users: int, rounds: int) -> dict[str, Any]:
    """So many users at once, each of whom submits a run, asks for its status until it has ended, and begins again."""
    door, took, statuses = yard.door(), list[float](), Counter[str]()
    yard.worker()

    async def user(number: int) -> None:
        await asyncio.sleep(number / users * POLL)  # they don't all come in the same millisecond
        async with await Wire.to(door.said) as wire:
            for turn in range(rounds):
                began = time.perf_counter()
                taken = await wire.ask("POST", "/run", BODY, Idempotency_Key=f"user-{number}-{turn}")
                took.append(time.perf_counter() - began)
                assert taken.status == 202, taken
                status = "queued"
                while status in ("queued", "running"):
                    await asyncio.sleep(uniform(0.5, 1.5) * POLL)
                    status = (await wire.ask("GET", taken.body["status_url"])).body["status"]
                statuses[status] += 1

    began, busy = time.perf_counter(), door.seconds
    await asyncio.gather(*map(user, range(users)))
    seconds = time.perf_counter() - began
    at_server = await served(door)
    took.sort()
    return {
        "runs": len(took),
        "completed": statuses["completed"],
        "runs a second": round(len(took) / seconds),
        "POST p50 ms": round(took[len(took) // 2] * 1000, 1),
        "POST p99 ms": round(took[int(len(took) * 0.99)] * 1000, 1),
        "of these in the door, p99 at most ms": at_server,
        "door busy": f"{(door.seconds - busy) / seconds:.0%}",
        "machine": f"{os.getloadavg()[0]:.0f} at work on {os.cpu_count()} processors",
        "holds": took[int(len(took) * 0.99)] * 1000 < P99 and statuses["completed"] == users * rounds,
    }


async def served(door: Started) -> float:
    """The p99 of POST /run as the door counts it: the upper end, in ms, of the range it is in."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(door.said.rpartition(":")[2]))
    writer.write(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    name = 'victoria_http_request_duration_seconds_bucket{le="'
    own = [line.removeprefix(name) for line in text.splitlines() if line.startswith(name) and 'route="/run"' in line]
    counts = [(float(line.partition('"')[0]), float(line.rpartition(" ")[2])) for line in own]
    return next(upper * 1000 for upper, count in counts if count >= 0.99 * counts[-1][1])


async def many_clients(yard: Yard, clients: int) -> dict[str, Any]:
    """So many clients that follow a run each at one door, before any worker has begun, until all have ended."""
    door = yard.door()
    before = door.memory
    runs = [await post(door.said, f"client-{number}") for number in range(clients)]
    opened = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(watched([door.said], run, opened.release)) for run in runs]
    for _ in tasks:
        await opened.acquire()
    await asyncio.sleep(3)
    waiting, busy = door.memory, door.seconds
    await asyncio.sleep(3)
    idle = (door.seconds - busy) / 3
    yard.worker(0.05)
    most = waiting
    while not all(task.done() for task in tasks):
        most = max(most, door.memory)
        await asyncio.sleep(0.2)
    sent = await asyncio.gather(*tasks)
    return {
        "clients": clients,
        "events": sum(map(len, sent)),
        "door before MB": round(before / 1e6),
        "with all open MB": round(waiting / 1e6),
        "at most MB": round(most / 1e6),
        "busy while they wait": f"{idle:.0%}",
        "holds": most / 1e6 < MEMORY,
    }


async def dying_doors(yard: Yard, runs: int) -> dict[str, Any]:
    """Two doors, one of which is killed -9 under load and started again: with the same key each run is one."""
    doomed, other = yard.door(), yard.door()
    port, doors, retried = int(doomed.said.rpartition(":")[2]), [doomed.said, other.said], 0
    yard.worker()
    ids: dict[int, set[str]] = {number: set() for number in range(runs)}

    async def user(number: int) -> None:
        nonlocal retried
        for attempt in range(600):
            try:
                run = await post(doors[(number + attempt) % 2], f"dying-{number}")
            except (OSError, EOFError):
                retried += 1
                await asyncio.sleep(0.05)
                continue
            ids[number].add(run)
            if attempt or number % 10 == 0:  # once more: it is the same run
                ids[number].add(await post(doors[1], f"dying-{number}"))
            await watched(doors[number % 2 :] + doors, run)
            return
        raise AssertionError(f"nobody takes run {number}")

    tasks = [asyncio.create_task(user(number)) for number in range(runs)]
    while sum(map(bool, ids.values())) < runs // 4:
        await asyncio.sleep(0.01)
    doomed.kill()
    await asyncio.to_thread(yard.door, port)
    await asyncio.gather(*tasks)
    intake = client_of(yard.url).xlen(Keys(yard.prefix).stream("0", "intake"))
    return {
        "runs": runs,
        "tried again": retried,
        "on intake": intake,
        "holds": intake == runs and all(len(own) == 1 for own in ids.values()),
    }


def main() -> int:
    """Measure; 0 if all holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--users", type=int, default=500, help="users who run goals at once (default 500)")
    parser.add_argument("--rounds", type=int, default=4, help="runs of each user (default 4)")
    parser.add_argument("--clients", type=int, default=1_000, help="clients that follow at once (default 1000)")
    asked = parser.parse_args()
    works: dict[str, Callable[[Yard], Awaitable[dict[str, Any]]]] = {
        "many runs": lambda yard: many_runs(yard, asked.users, asked.rounds),
        "many clients": lambda yard: many_clients(yard, asked.clients),
        "dying doors": lambda yard: dying_doors(yard, asked.users),
    }
    holds = True
    for name, work in works.items():
        with tempfile.TemporaryDirectory(prefix="load-") as folder, valkey() as url, yard(url, Path(folder)) as made:
            found = uvloop.run(asyncio.wait_for(work(made), WITHIN))
        holds = holds and found["holds"]
        print(f"{name}: " + ", ".join(f"{what} {value}" for what, value in found.items()), flush=True)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
