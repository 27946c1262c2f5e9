"""How far stages are behind, drawn for 80 columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from gateway.screen import fit, styled

if TYPE_CHECKING:
    from gateway.lag import Part, StageLag

VERDICTS = {
    "ok": ("ok", "green"),
    "falling behind": ("▲ behind", "yellow"),
    "stalled": ("■ stalled", "red"),
    "stopped": ("✗ stopped", "bold red"),
    "unknown": ("? unknown", "dim"),
}
BARS = "▁▂▃▄▅▆▇█"
PAST = 8
"""Cells of a sparkline."""
NAME = 17
HEADS = ("stage", "verdict", "wait", "hold", "off", "dead", "age", "in/s", "out/s", "by")
LEGEND = "wait: undelivered, hold: in hand, off: put off, age: the oldest, by: workers"


def picture(
    found: "Sequence[StageLag]", width: int, *, in_parts: bool = False, watched: bool = False, trouble: str = ""
) -> Group:
    """A table of stages, or of their partitions too, and what else is to be said. `watched` adds how it was before."""
    table = Table.grid(padding=(0, 1, 0, 0))
    heads = (HEADS[0], *(("before",) if watched else ()), *HEADS[1:])
    for head in heads:
        table.add_column(justify="left" if head in ("stage", "before", "verdict") else "right", no_wrap=True)
    table.add_row(*(styled((head, "italic")) for head in heads))
    for each in found:
        past = (sparkline(each.past),) if watched else ()
        table.add_row(fit(each.stage, NAME), *past, *_cells(each.all))
        for part in each.partitions if in_parts else ():
            table.add_row(fit(f"  {part.stream}/{part.partition}", NAME), *("" for _ in past), *_cells(part))
    said = [Text(fit(line, max(width - 1, 20)), style) for line, style in _said(found, trouble)]
    return Group(table, *said)


def _said(found: "Sequence[StageLag]", trouble: str) -> list[tuple[str, str]]:
    lines = [(trouble, "bold red")] if trouble else []
    if etas := [f"{each.stage} in {span(each.all.eta)}" for each in found if each.all.eta]:
        lines.append((f"done: {', '.join(etas)}", ""))
    if lost := [each.stage for each in found if each.all.abandoned]:
        lines.append((f"entries of workers that are gone: {', '.join(lost)}", "yellow"))
    return [*lines, (LEGEND, "dim")]


def _cells(part: "Part") -> tuple[Text, ...]:
    word, style = VERDICTS[part.verdict]
    wait = bounded(part.undelivered, part.undelivered_at_least)
    dead = bounded(part.dead, part.dead_at_least)
    return (
        Text(word, style),
        Text(wait, "bold" if part.undelivered_at_least else ""),
        Text(short(part.pending)),
        Text(short(part.delayed)),
        Text(dead, "red" if part.dead_at_least else ""),
        Text("-" if part.oldest is None else span(part.oldest)),
        Text("?" if part.rate_in is None else short(part.rate_in)),
        Text("?" if part.rate_out is None else short(part.rate_out)),
        Text("-" if part.consumers is None else short(part.consumers)),
    )


def bounded(known: int | None, least: int) -> str:
    """A number, or at least how many where it is unknown."""
    return short(known) if known is not None else f"≥{short(least)}"


def short(number: float) -> str:
    """A number in at most five characters."""
    if number < 9.95 and number != int(number):
        return f"{number:.1f}"
    for unit in ("", "k", "M", "G"):
        if number < 9.95 and unit:
            return f"{number:.1f}{unit}"
        if number < 999.5:
            return f"{number:.0f}{unit}"
        number /= 1000
    return "lots"


def span(seconds: float | None) -> str:
    """A time in at most five characters."""
    left = seconds or 0.0
    if left < 9.95:
        return f"{left:.1f}s"
    for size, unit in ((60, "s"), (60, "m"), (24, "h")):
        if left < size:
            return f"{left:.0f}{unit}"
        left /= size
    return f"{min(left, 9999):.0f}d"


def sparkline(past: Sequence[int]) -> str:
    """How a number went, in a few characters: the highest is a full bar, nothing is the lowest."""
    last = past[-PAST:]
    top = max(last, default=0) or 1
    return "".join(BARS[-(-each * (len(BARS) - 1) // top)] for each in last)
