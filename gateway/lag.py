"""`victoria lag`: how far each stage is behind, and how it gets on."""

import re
from collections import deque
from collections.abc import Sequence
from typing import Annotated

import anyio
import msgspec
import typer
from rich.live import Live

from deploy.loading import Loaded
from deploy.victoria import Victoria
from gateway.complain import Interrupted
from gateway.interrupt import interruptible
from gateway.lag_screen import picture
from gateway.options import Json, configured, with_victoria
from gateway.screen import OUT, emit, note
from schemas.errors import InvalidInput
from streams.connection import TROUBLE
from streams.lag import Measure, measures, total
from streams.verdict import Verdict, rates, verdict

KEPT = 60
"""Measures of a window that is watched."""
PATIENCE = 600.0
"""Seconds that who follows all streams may have an entry in hand."""
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Part(msgspec.Struct, frozen=True):
    """What is known of a stage in one partition, or in all. `undelivered` is null where it can't be known, and then
    lies between the other two; so is `dead`. Times are in seconds, rates in entries a second."""

    stream: str
    partition: str
    verdict: Verdict
    undelivered: int | None
    undelivered_at_least: int
    undelivered_at_most: int
    pending: int
    abandoned: int
    delayed: int
    dead: int | None
    dead_at_least: int
    oldest: float | None
    consumers: int | None
    rate_in: float | None
    rate_out: float | None
    eta: float | None

    @classmethod
    def of(cls, window: Sequence[Measure], patience: float) -> "Part":
        """By the last measure of a window."""
        last, speed = window[-1], rates(window)
        return cls(
            stream=last.stream,
            partition=last.partition,
            verdict=verdict(window, patience),
            undelivered=last.undelivered.known,
            undelivered_at_least=last.undelivered.least,
            undelivered_at_most=last.undelivered.most,
            pending=last.pending,
            abandoned=last.abandoned,
            delayed=last.delayed,
            dead=last.dead.known,
            dead_at_least=last.dead.least,
            oldest=last.oldest,
            consumers=last.consumers,
            rate_in=_rounded(speed.into),
            rate_out=_rounded(speed.out),
            eta=_rounded(speed.eta),
        )


class StageLag(msgspec.Struct, frozen=True):
    """A stage: in all partitions, and in each. `past` is what was unfinished before, at least, oldest first."""

    stage: str
    all: Part
    partitions: tuple[Part, ...]
    past: tuple[int, ...] = ()


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


def seconds(text: str) -> float:
    """How long `30s`, `5m` or `2h` is. Raises InvalidInput `lag.time`."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)", text.strip(), re.ASCII)
    if not found:
        raise InvalidInput("lag.time", f"{text[:80]!r} is no span of time.", "Write 30s, 5m or 2h.")
    return float(found[1]) * UNITS[found[2]]


@configured
def lag(
    loaded: Loaded,
    stage: Annotated[str, typer.Option(metavar="STAGE", help="One stage, with its partitions.")] = "",
    watch: Annotated[
        bool, typer.Option("--watch", "-w", metavar="", help="Look again and again, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.1, max=60, metavar="SECONDS", help="Between two looks; rates need two.")
    ] = 1.0,
    check: Annotated[
        bool, typer.Option("--check", metavar="", help="Exit 4 where a stage is further behind than allowed.")
    ] = False,
    max_age: Annotated[str, typer.Option(metavar="TIME", help="Allowed age of the oldest unfinished entry.")] = "30s",
    max_lag: Annotated[int, typer.Option(min=0, metavar="N", help="Allowed unfinished entries of a stage.")] = 1000,
    as_json: Json = False,
) -> None:
    """Show how far each stage is behind: entries that wait, are in hand, are put off or were given up; the age of the
    oldest unfinished one; rates in and out; and a verdict: ok, falling behind, stalled or stopped.

    An age counts from when an entry was put on its stream, or was due again. What can't be known, after somebody
    deleted or trimmed entries, is shown as at least so many.

    Example: victoria lag --check --max-age 30s --max-lag 1000
    """
    allowed = seconds(max_age)
    if check and watch:
        raise InvalidInput("lag.usage", "--check looks once.", "Leave --watch out.")

    async def work(victoria: Victoria) -> None:
        chosen = victoria.require_stages([stage]) if stage else ()
        watched = Watched(victoria, chosen)
        async with interruptible(lambda: Interrupted("interrupted", "Interrupted; the stages go on.")):
            if watch:
                await _watch(watched, every, bool(stage), as_json)
                return
            await watched.look()
            if not check:
                await anyio.sleep(every)
                await watched.look()
        found = watched.found()
        behind = too_far(found, allowed, max_lag) if check else []
        if as_json:
            emit({"stages": found, **({"behind": behind} if check else {})})
        else:
            shown = found if check or chosen else await _worth_showing(victoria, found)
            OUT.print(picture(shown, OUT.width, in_parts=bool(stage)))
            for line in behind:
                note(line)
        if behind:
            raise typer.Exit(4)

    with_victoria(loaded, work)


class Watched:
    """Stages that are looked at again and again; `chosen` ones, or all."""

    def __init__(self, victoria: Victoria, chosen: Sequence[str] = ()) -> None:
        self._victoria, self._chosen = victoria, chosen
        self._windows: dict[tuple[str, str, str], deque[Measure]] = {}

    async def look(self) -> None:
        """Measure once more. Raises redis errors."""
        victoria, sums = self._victoria, dict[str, list[Measure]]()
        found = await measures(victoria.client, victoria.keys, victoria.topology)
        for each in found:
            sums.setdefault(each.stage, []).append(each)
        for each in (*(total(parts) for parts in sums.values()), *found):
            if not self._chosen or each.stage in self._chosen:
                place = (each.stage, each.partition, each.stream if each.partition else "")
                self._windows.setdefault(place, deque(maxlen=KEPT)).append(each)

    def found(self) -> list[StageLag]:
        """What is known now."""
        stages = {stage.name: stage.policy.timeout for stage in self._victoria.topology.stages}
        found: list[StageLag] = []
        for (name, partition, _), window in self._windows.items():
            if not partition:
                patience = stages.get(name, PATIENCE)
                parts = [Part.of(list(own), patience) for (of, p, _), own in self._windows.items() if of == name and p]
                past = tuple(each.unfinished.least for each in window)
                found.append(StageLag(name, Part.of(list(window), patience), tuple(parts), past))
        return found


async def _worth_showing(victoria: Victoria, found: Sequence[StageLag]) -> list[StageLag]:
    """Those of stages that these settings need, and of others that have something to do or somebody who does it."""
    needed = await victoria.needed()
    return [each for each in found if each.stage in needed or each.all.consumers or each.all.oldest is not None]


async def _watch(watched: Watched, every: float, in_parts: bool, as_json: bool) -> None:
    """Show what comes until interrupted; on a terminal in place of what was before. The server may go and come back."""
    terminal = OUT.is_terminal and not as_json
    with Live(console=OUT, screen=True, auto_refresh=False) if terminal else _NoScreen() as live:
        first = True
        while True:
            trouble = ""
            try:
                await watched.look()
            except TROUBLE as problem:
                if first:
                    raise
                trouble = f"The server is away: {problem}"
            found, first = watched.found(), False
            if as_json:
                emit({"stages": found})
            elif isinstance(live, Live):
                live.update(picture(found, OUT.width, in_parts=in_parts, watched=True, trouble=trouble), refresh=True)
            else:
                OUT.print(picture(found, OUT.width, in_parts=in_parts, watched=True, trouble=trouble))
            await anyio.sleep(every)


class _NoScreen:
    """What is printed goes on below what was before."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def too_far(found: Sequence[StageLag], age: float, most: int) -> list[str]:
    """What stages are further behind with than allowed, or may be, in seconds of age and in unfinished entries."""
    wrong: list[str] = []
    for stage in found:
        each = stage.all
        if each.undelivered_at_most + each.pending > most:
            least = each.undelivered_at_least + each.pending
            count = f"{least:,}" if each.undelivered is not None else f"at least {least:,}"
            wrong.append(f"{stage.stage}: {count} unfinished entries, more than {most:,}")
        if (each.oldest or 0) > age:
            wrong.append(f"{stage.stage}: the oldest is {each.oldest:,.0f} s old, more than {age:g} s")
    return wrong
