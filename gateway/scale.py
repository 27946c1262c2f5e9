"""Where on a timeline a moment is. Where a run mostly waited, long waits are cut short, so that its work is seen."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from consumers.runs.timeline import Timeline, union

IDLE, LONG = 0.6, 0.1
"""Of a run's time, what long spans in which nothing was at work have to be together to be cut short, and each."""
GAP = 0.06
"""Of a timeline's width, what such a span gets."""
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000)
"""Ms between two marks, as far as they are listed; then it is these in minutes, up to hours and days."""
HOUR = 3_600_000
LATER = (600_000, 900_000, 1_800_000, HOUR, 2 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR)


class Stretch(NamedTuple):
    """From `start` to `end`, in ms, a timeline goes from `left` to `right`, parts of its width. `cut`: nothing was at
    work then."""

    start: int
    end: int
    left: float
    right: float
    cut: bool


class Mark(NamedTuple):
    """A moment that the axis names: where it is, as a part of the width, and how it is written."""

    at: float
    label: str


class Scale:
    """The scale of one timeline."""

    def __init__(self, timeline: Timeline) -> None:
        self.stretches = _stretches(timeline)

    def at(self, ms: int) -> float:
        """Where a moment is, from 0 to 1; what lies beyond an end is there."""
        for stretch in self.stretches:
            if ms <= stretch.end:
                part = max(0, ms - stretch.start) / max(1, stretch.end - stretch.start)
                return stretch.left + part * (stretch.right - stretch.left)
        return 1.0

    @property
    def cuts(self) -> list[Stretch]:
        """The spans that are cut short."""
        return [stretch for stretch in self.stretches if stretch.cut]

    def marks(self, most: int) -> list[Mark]:
        """Even marks, `most` at most about, at the same distance everywhere."""
        whole = [stretch for stretch in self.stretches if not stretch.cut]
        shown = sum(stretch.end - stretch.start for stretch in whole)
        step = next((step for step in (*STEPS, *LATER) if shown / step <= most), max(LATER[-1], -(-shown // most)))
        found: list[Mark] = []
        for stretch in whole:
            first = -(-stretch.start // step) * step
            found += [Mark(self.at(ms), moment(ms, step)) for ms in range(first, stretch.end + 1, step)]
        return found


def _stretches(timeline: Timeline) -> list[Stretch]:
    """Where something was at work, as far as is known, and all else: cut short where it is long."""
    until, busy = timeline.until, list[tuple[int, int]]()
    for row in timeline.rows:
        if row.start is None or row.kind in ("step", "question"):
            continue
        if row.end is not None or row.kind in ("model", "tool", "delegation"):
            busy += _without(max(0, row.start), until if row.end is None else min(row.end, until), row.waits)
    edges = [0, *(at for span in union(busy) for at in span), until]
    idle = [(a, b) for a, b in list(pairwise(edges))[::2] if b - a > LONG * until]
    if not busy or sum(b - a for a, b in idle) < IDLE * until:
        idle = []
    room = 1 - GAP * len(idle)
    shown = max(1, until - sum(b - a for a, b in idle))
    found, left, at = list[Stretch](), 0.0, 0
    for a, b in [*idle, (until, until)]:
        right = left + room * (a - at) / shown
        if a > at:
            found.append(Stretch(at, a, left, right, cut=False))
        left, at = right, b
        if b > a:
            found.append(Stretch(a, b, left, left + GAP, cut=True))
            left += GAP
    return found


def _without(start: int, end: int, waits: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """A span without others that lie in it."""
    found, at = list[tuple[int, int]](), start
    for a, b in waits:
        if a > at:
            found.append((at, min(a, end)))
        at = max(at, b)
    return [*found, (at, end)] if at < end else found


def moment(ms: int, step: int = 1) -> str:
    """A time since the beginning, as exact as `step` ms needs it."""
    if ms < 60_000:
        digits = 0 if step % 1000 == 0 else 1 if step % 100 == 0 else 2 if step % 10 == 0 else 3
        return f"{ms / 1000:.{digits}f} s" if ms else "0"
    hours, rest = divmod(ms, HOUR)
    minutes, left = divmod(rest, 60_000)
    seconds = f"{left / 1000:04.1f}" if step % 1000 else f"{left // 1000:02d}"
    return f"{hours}:{minutes:02d}:{seconds}" if hours else f"{minutes}:{seconds}"


def span(ms: int | None) -> str:
    """How long something took; "?" where that is not known."""
    if ms is None:
        return "?"
    if ms < 1_000:
        return f"{ms} ms"
    if ms < 59_950:
        return f"{ms / 1000:.2f} s" if ms < 9_995 else f"{ms / 1000:.1f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02d} m" if hours else f"{minutes} m {seconds:02d} s"
