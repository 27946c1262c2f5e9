"""`victoria tail`: the newest entries of the streams, and new ones as they come."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
import typer

from deploy.settings import Loaded
from deploy.wiring import Victoria, catalogue_topology
from gateway.complain import Interrupted
from gateway.interrupt import interruptible
from gateway.options import Json, configured, with_victoria
from gateway.screen import OUT, emit, line, styled
from schemas.errors import InvalidInput
from streams.follow import Seen, follow, seen
from streams.topology import Topology

INDENT = 14
"""Cells before an event: the time has 12 and two behind it."""


def streams(topology: Topology) -> tuple[str, ...]:
    """What can be looked at: the streams, and the dead letters."""
    return (*topology.streams(), "dead")


def _completed(incomplete: str) -> list[str]:
    return [name for name in streams(catalogue_topology()) if name.startswith(incomplete)]


@configured
def tail(
    loaded: Loaded,
    stream: Annotated[
        str,
        typer.Argument(
            metavar="STREAM", help="One stream, such as intake or dead; by default all.", autocompletion=_completed
        ),
    ] = "",
    count: Annotated[
        int, typer.Option("--count", "-n", min=0, metavar="N", help="How many entries of each stream.")
    ] = 10,
    follow_on: Annotated[bool, typer.Option("--follow", "-f", metavar="", help="Go on with what comes.")] = False,
    run_id: Annotated[str, typer.Option("--run", metavar="RUN", help="One run's entries only.")] = "",
    as_json: Json = False,
) -> None:
    """Show the newest entries of streams, oldest first, and with --follow those that come.

    Example: victoria tail aggregate --follow
    """

    async def work(victoria: Victoria) -> None:
        keys, known = victoria.keys, streams(victoria.topology)
        if stream and stream not in known:
            raise InvalidInput("stream.unknown", f"There is no stream {stream!r}.", f"Streams: {', '.join(known)}.")
        names = [stream] if stream else known
        async with interruptible(lambda: Interrupted("interrupted", "Interrupted; the streams go on.")):
            entries, cursors = await newest(
                victoria, [keys.stream(p, name) for name in names for p in _partitions(victoria, name)], count
            )
            _show(entries, run_id, as_json)
            if follow_on:
                async for batch in follow(victoria.client, cursors):
                    _show(batch, run_id, as_json)

    with_victoria(loaded, work)


def _partitions(victoria: Victoria, name: str) -> tuple[str, ...]:
    runs = victoria.keys.of_stream(name)
    return (*runs, *victoria.keys.of_stream("infer.")) if name == "dead" else runs


async def newest(victoria: Victoria, keys: Sequence[str], count: int) -> tuple[list[Seen], dict[str, str]]:
    """The newest `count` entries of each stream, in order of time, and the newest id of each."""
    pipeline: Any = victoria.client.pipeline(transaction=False)
    for key in keys:
        pipeline.xrevrange(key, count=max(count, 1))
    entries: list[Seen] = []
    cursors: dict[str, str] = {}
    for key, found in zip(keys, await pipeline.execute(), strict=True):
        cursors[key] = found[0][0].decode() if found else "0-0"
        entries += [seen(key, entry_id, fields) for entry_id, fields in found[:count][::-1]]
    return sorted(entries, key=_when), cursors


def _when(entry: Seen) -> tuple[int, int]:
    stamp, _, sequence = entry.id.partition("-")
    return int(stamp), int(sequence)


def _show(entries: Sequence[Seen], run_id: str, as_json: bool) -> None:
    for entry in entries:
        if run_id and (entry.envelope is None or entry.envelope.run != run_id):
            continue
        if as_json:
            content: Any = entry.envelope or entry.text
            emit({"stream": entry.stream, "id": entry.id, "type": entry.type, "event": content})
        else:
            _print(entry)


def _print(entry: Seen) -> None:
    """Two lines: when, where, what and whose; and the event, as much of it as fits."""
    time = datetime.fromtimestamp(_when(entry)[0] / 1000).astimezone().strftime("%H:%M:%S.%f")[:12]
    run = f"  run {entry.envelope.run}" if entry.envelope else ""
    where = entry.stream.rpartition(":")[2]
    OUT.print(styled(time, "  ", (where, "cyan"), "  ", (entry.type, "bold"), (run, "dim")), soft_wrap=True)
    body = msgspec.json.encode(entry.envelope.body).decode() if entry.envelope else entry.text
    OUT.print(" " * INDENT + line(body, less=INDENT, console=OUT), soft_wrap=True)
