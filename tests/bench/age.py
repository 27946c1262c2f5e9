"""Whether a stream's age shows: the hop, the lag query and memory behind ever more entries that are done with."""

from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import uvloop

from streams.bench import drain, fill, name_of_server, noop, quiet
from streams.connection import Client, connect
from streams.keys import Keys
from streams.stage import AnyStage
from tests.bench.report import Promise, Section, number
from tests.bench.valkey import valkey

LENGTHS = (10_000, 100_000, 1_000_000, 5_000_000)
LAG_QUERIES = 50
PREFILL = """
-- KEYS[1] the stream   ARGV[1] how many   ARGV[2...] the fields of each
for _ = 1, ARGV[1] do
  redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
end
"""
PREFILL_AT_ONCE = 10_000


class Aged(msgspec.Struct):
    """A stream of one length, and what was measured on it."""

    keys: Keys
    length: int
    bytes_per_event: float
    hops_per_s: list[float] = []
    lag_ms: list[float] = []

    @property
    def stream(self) -> str:
        """The key that the stage reads."""
        return self.keys.stream("0", STAGE.reads)


async def _never(_event: object, _ctx: object) -> list[Any]:
    return []


STAGE: AnyStage = noop(_never, 256)


def age(quick: bool) -> Section:
    """The hop at stream lengths up to five millions."""
    lengths, events, rounds = ((1_000, 10_000), 500, 1) if quick else (LENGTHS, 30_000, 8)
    section = Section(
        "age",
        "A long stream, without the append-only file",
        ("entries done with", "hops/s", "of the shortest", "lag query, ms (median, worst)", "bytes an entry"),
    )
    # With one, its rewriting at this size would be what is measured.
    with valkey(appendonly="no") as url:
        section.server, aged = uvloop.run(_measure(url, lengths, events, rounds))
    shortest = aged[0].hops_per_s
    for each in aged:
        lag = each.lag_ms
        section.add(
            f"{each.length:,}",
            number(median(each.hops_per_s)),
            f"{_share(each.hops_per_s, shortest):.0%}",
            f"{median(lag):.2f}, {max(lag):.2f}",
            f"{each.bytes_per_event:.0f}",
        )
    section.promise(
        Promise.at_least(
            "of its throughput on the longest stream", _share(aged[-1].hops_per_s, shortest), 0.9, "{:.0%}"
        ),
        Promise.at_most("ms for the lag query there", median(aged[-1].lag_ms), 5),
    )
    return section


def _share(hops: list[float], shortest: list[float]) -> float:
    return median(one / other for one, other in zip(hops, shortest, strict=True))


async def _measure(url: str, lengths: tuple[int, ...], events: int, rounds: int) -> tuple[str, list[Aged]]:
    client = connect(url)
    aged = [await _aged(client, length) for length in lengths]
    # The shortest and the longest, which are compared, are neighbours, now in this order and now in that.
    turns = [*aged[1:-1], aged[0], aged[-1]]
    for turn in range(rounds):
        for each in turns if turn % 2 else reversed(turns):
            await _round(client, each, events)
    version = await name_of_server(client)
    await client.aclose()
    return version, aged


async def _aged(client: Any, length: int) -> Aged:
    """A stream of `length` entries that its group is past."""
    aged = Aged(Keys(f"age-{length}"), length, 0.0)
    await fill(client, aged.keys, 1, quiet)
    ((_, fields),) = await client.xrange(aged.stream)
    flat = [part for field in fields.items() for part in field]
    before = (await client.info("memory"))["used_memory"]
    for done in range(1, length, PREFILL_AT_ONCE):
        await client.eval(PREFILL, 1, aged.stream, min(PREFILL_AT_ONCE, length - done), *flat)
    aged.bytes_per_event = ((await client.info("memory"))["used_memory"] - before) / length
    await client.xgroup_create(aged.stream, STAGE.name, id="$", entries_read=length)
    return aged


async def _round(client: Any, aged: Aged, events: int) -> None:
    await fill(client, aged.keys, events, quiet)
    for _ in range(LAG_QUERIES):
        started = perf_counter()
        lag = await unfinished(client, aged.stream, STAGE.name)
        aged.lag_ms.append(1_000 * (perf_counter() - started))
        assert lag == events, f"{lag} entries wait instead of {events}"
    figures = await drain(client, aged.keys, events, STAGE.policy.concurrency, quiet)
    aged.hops_per_s.append(figures.hops_per_s)
    await client.unlink(aged.keys.stream("0", "results"))
    await client.xtrim(aged.stream, maxlen=aged.length, approximate=False)


async def unfinished(client: Client, stream: str, group: str) -> int:
    """The entries that a group has not finished: those not delivered, and those pending."""
    server: Any = client
    groups: list[dict[str, Any]] = await server.xinfo_groups(stream)
    pending: dict[str, Any] = await server.xpending(stream, group)
    lag: int = next(each["lag"] for each in groups if each["name"] == group.encode())
    return lag + int(pending["pending"])
