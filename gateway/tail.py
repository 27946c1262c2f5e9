"""`victoria tail`: the newest entries of the streams, and new ones as they come."""

from typing import Annotated, Any

import msgspec
import typer

from deploy.wiring import Victoria
from gateway.options import Json, Model, RedisUrl, Set, loaded_settings, with_victoria
from schemas.errors import InvalidInput
from streams.connection import reachable
from streams.follow import Seen, follow, seen

TEXT = 160


def tail(
    stream: Annotated[str, typer.Argument(help="One stream, such as intake or dead; by default all.")] = "",
    count: Annotated[int, typer.Option("-n", "--count", min=0, help="How many entries of each stream.")] = 10,
    follow_on: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes.")] = False,
    run_id: Annotated[str, typer.Option("--run", help="One run's entries only.")] = "",
    as_json: Json = False,
    redis_url: RedisUrl = None,
    model: Model = None,
    more: Set = None,
) -> None:
    """Show the newest entries of streams, oldest first, and with --follow those that come.

    Example: victoria tail aggregate --follow
    """
    loaded = loaded_settings(redis_url, model, more)

    async def work(victoria: Victoria) -> None:
        known = (*victoria.topology.streams(), "dead")
        if stream and stream not in known:
            raise InvalidInput("stream.unknown", f"There is no stream {stream!r}.", f"Streams: {', '.join(known)}.")
        keys = victoria.keys
        names = [stream] if stream else list(known)
        wanted = [keys.stream(p, name) for name in names for p in _partitions(victoria, name)]
        with reachable(victoria.url):
            entries, cursors = await newest(victoria, wanted, count)
            for entry in entries:
                show(entry, run_id, as_json)
            if follow_on:
                async for batch in follow(victoria.client, cursors):
                    for entry in batch:
                        show(entry, run_id, as_json)

    with_victoria(loaded, work)


def _partitions(victoria: Victoria, name: str) -> tuple[str, ...]:
    runs = victoria.keys.of_stream(name)
    return (*runs, *victoria.keys.of_stream("infer.")) if name == "dead" else runs


async def newest(victoria: Victoria, streams: list[str], count: int) -> tuple[list[Seen], dict[str, str]]:
    """The newest `count` entries of each stream, in order of time, and the newest id of each."""
    pipeline: Any = victoria.client.pipeline(transaction=False)
    for key in streams:
        pipeline.xrevrange(key, count=max(count, 1))
    entries: list[Seen] = []
    cursors: dict[str, str] = {}
    for key, found in zip(streams, await pipeline.execute(), strict=True):
        cursors[key] = found[0][0].decode() if found else "0-0"
        entries += [seen(key, entry_id, fields) for entry_id, fields in found[:count]]
    return sorted(entries, key=_when), cursors


def _when(entry: Seen) -> tuple[int, int]:
    stamp, _, sequence = entry.id.partition("-")
    return int(stamp), int(sequence)


def show(entry: Seen, run_id: str, as_json: bool) -> None:
    """Print one entry: a line for people, or the whole as JSON."""
    if run_id and (entry.envelope is None or entry.envelope.run != run_id):
        return
    if as_json:
        content: Any = entry.envelope or entry.text
        row = {"stream": entry.stream, "id": entry.id, "type": entry.type, "event": content}
        typer.echo(msgspec.json.encode(row).decode())
        return
    name = entry.stream.rpartition(":")[2]
    body = msgspec.json.encode(entry.envelope.body).decode() if entry.envelope else entry.text
    run = entry.envelope.run[-8:] if entry.envelope else "-"
    shown = "".join(c if c.isprintable() else "·" for c in body[:TEXT])
    typer.echo(f"{entry.id:<20} {name:<13} {run:<8} {entry.type:<18} {shown}{'…' if len(body) > TEXT else ''}")
