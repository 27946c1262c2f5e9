"""What a measurement found: a table, what was promised, a chart; on the screen as it goes, and in RESULTS.md."""

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from math import log10
from pathlib import Path
from statistics import median

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "RESULTS.md"
HEAD = """# Measured

By `make bench`, which writes this file. Everything compared ran in turns on one machine, several rounds; figures are
medians, and a ratio is the median of the ratios within each round, so that what else the machine does hits both sides.
"""


@dataclass(frozen=True, slots=True)
class Promise:
    """A ratio or figure that must hold."""

    text: str
    value: float
    holds: bool
    shown: str

    @classmethod
    def at_least(cls, text: str, value: float, least: float, form: str = "{:.2f}") -> "Promise":
        """`value` must reach `least`."""
        return cls(f"{text}: at least {form.format(least)}", value, value >= least, form.format(value))

    @classmethod
    def at_most(cls, text: str, value: float, most: float, form: str = "{:.2f}") -> "Promise":
        """`value` must not pass `most`."""
        return cls(f"{text}: at most {form.format(most)}", value, value <= most, form.format(value))


@dataclass(slots=True)
class Section:
    """One measurement. Rows have as many cells as `columns`; `bars` are a chart's, label and value."""

    name: str
    title: str
    columns: tuple[str, ...]
    server: str = ""
    rows: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    promises: list[Promise] = field(default_factory=list[Promise])
    bars: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    unit: str = ""
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    def add(self, *cells: str) -> None:
        """Add a row, and print it."""
        self.rows.append(cells)
        print("  " + " · ".join(cells), flush=True)

    def promise(self, *promises: Promise) -> None:
        """Add what must hold."""
        self.promises += promises

    def broken(self) -> int:
        """Print what was promised and whether it holds; how much does not."""
        for each in self.promises:
            print(f"  {'holds ' if each.holds else 'BROKEN'} {each.text}: {each.shown}", flush=True)
        return sum(not each.holds for each in self.promises)

    def write(self) -> None:
        """Put this section into RESULTS.md, in place of an earlier one, and its chart beside it."""
        text = RESULTS.read_text() if RESULTS.exists() else HEAD
        mark, end = f"<!-- {self.name} -->", f"<!-- /{self.name} -->"
        section = f"{mark}\n{self._markdown()}\n{end}\n"
        pattern = re.compile(f"{re.escape(mark)}.*?{re.escape(end)}\n", re.DOTALL)
        text = pattern.sub(lambda _: section, text) if pattern.search(text) else f"{text}\n{section}"
        RESULTS.write_text(text)
        if self.bars:
            (FOLDER / f"{self.name}.svg").write_text(chart(self.title, self.bars, self.unit))

    def _markdown(self) -> str:
        lines = [f"## {self.title}", "", f"{machine()}, {self.server}; load {self.load:.1f} at the start.", ""]
        lines += [_row(self.columns), "|---" * len(self.columns) + "|", *map(_row, self.rows)]
        if self.promises:
            lines += ["", "| promised | measured | |", "|---|---|---|"]
            lines += [_row((each.text, each.shown, "holds" if each.holds else "**broken**")) for each in self.promises]
        if self.bars:
            lines += ["", f"![{self.title}]({self.name}.svg)"]
        return "\n".join(lines)


def machine() -> str:
    """What this was measured on, without names."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB, "
        f"{platform.system()}, Python {platform.python_version()}"
    )


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios within each round."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))


def number(value: float) -> str:
    """A figure for people: three digits that count."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def chart(title: str, bars: Sequence[tuple[str, float]], unit: str) -> str:
    """Bars on a logarithmic scale, as SVG."""
    top, bottom = (log10(pick(value for _, value in bars)) for pick in (max, min))
    low = int(bottom) if bottom > int(bottom) else int(bottom) - 1
    width, left, high = 720, 190, 26
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{high * len(bars) + 60}">',
        "<style>text {font: 13px sans-serif}</style>",
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="22" font-weight="bold">{escape(title)}</text>',
    ]
    for place, (label, value) in enumerate(bars):
        y = 40 + high * place
        length = max((log10(value) - low) / max(top - low, 0.01) * (width - left - 110), 1)
        colour = "#b3273d" if label.startswith("Victoria") else "#8a94a6"
        parts += [
            f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{left}" y="{y}" width="{length:.1f}" height="20" fill="{colour}"/>',
            f'<text x="{left + length + 6:.1f}" y="{y + 15}">{number(value)} {escape(unit)}</text>',
        ]
    parts += [f'<text x="{left}" y="{high * len(bars) + 54}" fill="#666">logarithmic scale</text>', "</svg>", ""]
    return "\n".join(parts)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
