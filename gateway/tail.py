"""`victoria tail`: entries of the streams, in order of time over all partitions, and new ones as they come."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
import typer

from deploy.loading import Loaded
from deploy.victoria import Victoria
from deploy.wiring import catalogue_topology
from gateway.complain import Interrupted
from gateway.interrupt import interruptible
from gateway.options import Json, configured, with_victoria
from gateway.screen import OUT, emit, line, styled
from schemas.errors import InvalidInput
from streams.follow import Seen, follow
from streams.keys import Keys
from streams.letters import letter_of, run_of
from streams.ranges import MOST_NEWEST, EntryId, Range, parse
from streams.scan import before, ends, scan
from streams.topology import Topology

INDENT = 14
"""Cells before an event: the time has 12 and two behind it."""
ASIDE = ("dead", "audit")
"""Streams that no stage reads: dead letters, and what people did with them."""


def streams(topology: Topology) -> tuple[str, ...]:
    """What can be looked at."""
    return (*topology.streams(), *ASIDE)


def _completed(incomplete: str) -> list[str]:
    return [name for name in streams(catalogue_topology()) if name.startswith(incomplete)]


def _completed_stage(incomplete: str) -> list[str]:
    return [stage.name for stage in catalogue_topology().stages if stage.name.startswith(incomplete)]


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
        int | None,
        typer.Option(
            "--count", "-n", min=0, max=MOST_NEWEST, metavar="N", help="The newest N that match.  [default: 10]"
        ),
    ] = None,
    span: Annotated[
        str,
        typer.Option(
            "--range", "-r", metavar="RANGE", help="start, end, :end, -N, ID:ID, @TIME:TIME or @-1h:end, instead of -n."
        ),
    ] = "",
    follow_on: Annotated[bool, typer.Option("--follow", "-f", metavar="", help="Go on with what comes.")] = False,
    run_id: Annotated[str, typer.Option("--run", metavar="RUN", help="One run's entries only.")] = "",
    event_type: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="One type's only; `victoria events` lists them.")
    ] = "",
    stage: Annotated[
        str,
        typer.Option(
            metavar="STAGE",
            help="What a stage is given, and what of it was given up.",
            autocompletion=_completed_stage,
        ),
    ] = "",
    grep: Annotated[str, typer.Option(metavar="REGEX", help="Those whose JSON has a match.")] = "",
    as_json: Json = False,
) -> None:
    """Show entries of streams over all partitions, oldest first, and with --follow those that come.

    Example: victoria tail aggregate --range @-1h:end --type StepFinished --follow
    """
    if span and count is not None:
        raise InvalidInput("tail.usage", "Give either -n or --range.", f"`--range -{count or 1}` is `-n {count or 1}`.")
    wanted = parse(span) if span else Range(newest=10 if count is None else count)
    if follow_on and not wanted.open:
        raise InvalidInput("tail.usage", f"{span[:80]!r} has an end.", "Leave its end out to go on with what comes.")
    matches = _filter(run_id, event_type, stage, grep)

    async def work(victoria: Victoria) -> None:
        found = [key for name in _names(victoria, stream, stage) for key in _keys(victoria.keys, name)]
        async with interruptible(lambda: Interrupted("interrupted", "Interrupted; the streams go on.")):
            tops = await ends(victoria.client, found)
            async for entry in scan(victoria.client, found, wanted, tops, matches):
                _show(entry, as_json)
            if follow_on:
                after = {key: str(max(top, before(wanted.first))) for key, top in zip(found, tops, strict=True)}
                async for batch in follow(victoria.client, after):
                    for entry in sorted(filter(matches, batch), key=_when):
                        _show(entry, as_json)

    with_victoria(loaded, work)


def _names(victoria: Victoria, stream: str, stage: str) -> Sequence[str]:
    """The streams to look at. Raises InvalidInput."""
    known = streams(victoria.topology)
    if stream and stream not in known:
        raise InvalidInput("stream.unknown", f"There is no stream {stream!r}.", f"Streams: {', '.join(known)}.")
    if not stage:
        return [stream] if stream else known
    stages = victoria.require_stages([stage])
    of_stages = (*(victoria.topology.stage(name).reads for name in stages), "dead")
    return [name for name in of_stages if stream in ("", name)]


def _keys(keys: Keys, name: str) -> list[str]:
    return [keys.stream(p, name) for p in (keys.everywhere() if name in ASIDE else keys.of_stream(name))]


def _filter(run_id: str, event_type: str, stage: str, grep: str) -> Callable[[Seen], bool]:
    """What an entry has to be. Raises InvalidInput `tail.grep`."""
    try:
        pattern = re.compile(grep)
    except (re.error, RecursionError, OverflowError) as problem:
        raise InvalidInput(
            "tail.grep", f"{grep[:80]!r} is no regular expression: {problem}.", "Try --grep 'a|b'."
        ) from problem

    def matches(entry: Seen) -> bool:
        if event_type and entry.type != event_type:
            return False
        if run_id or stage:
            letter = letter_of(entry)
            if stage and letter and letter.stage != stage:
                return False
            if run_id and run_id != (run_of(letter) if letter else entry.envelope.run if entry.envelope else ""):
                return False
        return not grep or bool(pattern.search(entry.text))

    return matches


def _when(entry: Seen) -> EntryId:
    return EntryId.of(entry.id)


def _show(entry: Seen, as_json: bool) -> None:
    if as_json:
        content: Any = entry.envelope or entry.text
        emit({"stream": entry.stream, "id": entry.id, "type": entry.type, "event": content})
    else:
        _print(entry)


def _print(entry: Seen) -> None:
    """Two lines: when, where, what and whose; and the event, as much of it as fits."""
    time = datetime.fromtimestamp(_when(entry).ms / 1000).astimezone().strftime("%H:%M:%S.%f")[:12]
    run = f"  run {entry.envelope.run}" if entry.envelope else ""
    where = entry.stream.rpartition(":")[2]
    OUT.print(
        styled(time, "  ", (where, "cyan"), "  ", (" ".join(entry.type.split()), "bold"), (run, "dim")), soft_wrap=True
    )
    body = msgspec.json.encode(entry.envelope.body).decode() if entry.envelope else entry.text
    OUT.print(" " * INDENT + line(body, less=INDENT, console=OUT), soft_wrap=True)
