"""What the machine can do with the least that could be called a hop: a loop around one stream, and nothing else.

Read a batch, decode, encode, settle in one script. No journal, retry, state, lease, or second stage.

python -m tests.bench.draft URL EVENTS BATCH; flushes that server; prints one JSON line.
"""

import json
import sys
from time import perf_counter, process_time
from typing import Any, cast

import msgspec
import uvloop
from redis.asyncio import Redis

from streams.bench import PAYLOAD, server_time
from streams.connection import connect

SETTLE = """
-- KEYS[1] the stream   KEYS[2] the output's stream   ARGV[1] the group   ARGV[2] n, then n ids, then n outputs
local n, settled = tonumber(ARGV[2]), 0
for i = 3, n + 2 do
  if redis.call('XACK', KEYS[1], ARGV[1], ARGV[i]) == 1 then
    redis.call('XADD', KEYS[2], '*', 'e', ARGV[i + n])
    settled = settled + 1
  end
end
return settled
"""


class Event(msgspec.Struct, tag=True):
    """About as much as an envelope says."""

    id: str
    run_id: str
    goal: str
    depth: int


async def main(url: str, events: int, batch: int) -> None:
    """Fill, drain, print."""
    client: Any = cast("Any", Redis).from_url(url, protocol=2)
    encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Event).decode
    entry = encode(Event("x" * 26, "r" * 26, PAYLOAD, 1))
    await client.flushall()
    await client.xgroup_create("in", "g", id="0", mkstream=True)
    for done in range(0, events, 1_000):
        pipeline = client.pipeline(transaction=False)
        for _ in range(min(1_000, events - done)):
            pipeline.execute_command("XADD", "in", "*", "e", entry)
        await pipeline.execute()
    settle = client.register_script(SETTLE)
    await client.script_load(SETTLE)
    watcher = connect(url)
    before = await server_time(watcher)
    started, cpu, done = perf_counter(), process_time(), 0
    while done < events:
        reply: Any = await client.execute_command("XREADGROUP", "GROUP", "g", "c", "COUNT", batch, "STREAMS", "in", ">")
        ids: list[bytes] = []
        outputs: list[bytes] = []
        for entry_id, fields in reply[0][1]:
            event = decode(fields[b"e"])
            ids.append(entry_id)
            outputs.append(encode(Event(event.id, event.run_id, event.goal, event.depth + 1)))
        done += await settle(keys=["in", "out"], args=["g", len(ids), *ids, *outputs])
    elapsed, cpu = perf_counter() - started, process_time() - cpu
    spent = await server_time(watcher) - before
    await watcher.aclose()
    await client.flushall()
    await client.aclose()
    figures = {"hops_per_s": events / elapsed, "server_limit_per_s": 1e6 * events / spent}
    print(json.dumps(figures | {"cpu_us_per_hop": 1e6 * cpu / events}))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
