"""A timeline drawn for a terminal: a tree of rows, and beside each its bar. It needs no colours, and no more than 80
columns. Pure: what is drawn may say anything."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

from consumers.runs.timeline import Row, Timeline
from gateway.drawing import ALL_MARKS, STYLES
from gateway.progress import MARKS
from gateway.scale import Scale, moment, span
from gateway.screen import fit, styled

BARS = {"stage": "▒", "step": "━", "model": "█", "tool": "▓", "call": "▒", "question": "┈", "delegation": "◆"}
COLOURS = {"stage": "blue", "step": "bold", "model": "magenta", "tool": "cyan", "call": "dim", "question": "yellow"}
WAIT, CUT, OPEN, BEGAN = "░", "╱", "▶", "·"
LEGEND = "█ model ▓ tool ◆ agent ┈ person ━ step ▒ stage ░ waiting ▶ open ╱ left out"
OTHER_MARKS = {"dead": "✗", "open": "→", "unknown": "·", "answered": "✓", "expired": "·", "unanswered": "·"}
NUMBERS = 20
"""Cells of a row's time and tokens."""
HEAD, TAIL = 100, 20
"""Of more rows, the first ones that are shown, and the last ones."""


def waterfall(timeline: Timeline, width: int, *, whole: bool = False) -> Iterator[Text]:
    """Its lines, each at most `width` cells, 60 at least. `whole`: all rows, also minor ones and those of long runs."""
    width = max(width, 60) - 1
    rows = [row for row in timeline.rows if whole or not row.minor]
    depths, scale = timeline.depths({row.id for row in rows}), Scale(timeline)
    labels = min(max(26, width * 2 // 5), 64)
    bars = width - labels - NUMBERS
    yield from _head(timeline, width)
    yield styled(" " * labels, (f"{'took':>9}{'tokens':>10} ", "dim"), (_axis(scale, bars), "dim"))
    left_out = len(rows) - HEAD - TAIL
    for number, row in enumerate(rows):
        if whole or left_out <= 0 or number < HEAD or number >= len(rows) - TAIL:
            yield styled(*_label(row, depths[row.id], labels), *_numbers(row), *_bar(row, scale, bars))
        elif number == HEAD:
            failed = sum(each.failed for each in rows[HEAD : len(rows) - TAIL])
            yield styled((f"… {left_out:,} more rows, {failed:,} of them failed: --all shows them", "bold yellow"))
    yield from _foot(timeline, len(timeline.rows) - len(rows), width)


def _head(timeline: Timeline, width: int) -> Iterator[Text]:
    yield styled((fit(timeline.goal, width), "bold"))
    mark = ALL_MARKS.get(timeline.status) or {"completed": "✓", "failed": "✗"}.get(timeline.status, "·")
    style = {"completed": "green", "failed": "red", "cancelled": "red"}.get(timeline.status, "yellow")
    facts = [timeline.method] if timeline.method else []
    facts += [
        span(timeline.until if timeline.end is None else timeline.end) + (" so far" if timeline.end is None else "")
    ]
    facts += [f"{timeline.tokens_in:,} tokens in, {timeline.tokens_out:,} out"]
    facts += [f"{len(timeline.all('model'))} × model", f"{len(timeline.all('tool'))} × tool"]
    head = f"{mark} {timeline.status}"
    yield styled((head, style), " " + fit("".join(f"· {fact} " for fact in facts), width - len(head) - 1))
    began = f" · {timeline.began:%Y-%m-%d %H:%M:%S} UTC" if timeline.began else ""
    yield styled((fit(f"run {timeline.run}{began}", width), "dim"))
    if timeline.error:
        yield styled((fit(f"{timeline.error.message} [{timeline.error.code}]", width), "red"))
    for each in timeline.missing:
        yield styled((fit(f"? missing {each}", width), "yellow"))
    for each in timeline.notes:
        yield styled((fit(each, width), "yellow"))
    yield Text("")


def _foot(timeline: Timeline, minor: int, width: int) -> Iterator[Text]:
    for row in timeline.rows:
        if row.kind == "step" and row.failed and row.error:
            yield styled((fit(f"✗ step {row.name}: {row.error.message} [{row.error.code}]", width), "red"))
    yield styled((fit(LEGEND, width), "dim"))
    if minor > 0:
        yield styled((fit(f"{minor} rows that only keep the books are not shown: --all shows them", width), "dim"))


def _label(row: Row, depth: int, width: int) -> Sequence[tuple[str, str]]:
    mark = {**ALL_MARKS, **MARKS, **OTHER_MARKS}.get(row.status, "·")
    tries = f" ×{row.attempts}" if (row.attempts or 1) > 1 else ""
    about = row.model if row.kind == "model" else row.title
    indent = "│ " * min(depth, 6)
    name = fit(row.name, max(4, width - len(indent) - 4 - len(tries)))
    room = width - len(indent) - 3 - cell_len(name) - len(tries) - 1
    about = fit(about, room) if about and room >= 4 else ""
    pad = " " * (room - cell_len(about))
    style = "red" if row.failed else COLOURS.get(row.kind, "")
    parts = [(indent, "dim"), (f"{mark} ", _style(row)), (name, style), (tries, "bold yellow")]
    return [*parts, (f" {about}{pad} ", "dim")]


def _style(row: Row) -> str:
    return "red" if row.failed else STYLES.get(row.status, "green" if row.status == "answered" else "")


def _numbers(row: Row) -> Sequence[tuple[str, str]]:
    took = "" if row.start is None else "open" if row.open else span(row.took)
    tokens = "" if row.tokens_in is None else f"{_short(row.tokens_in)}+{_short(row.tokens_out or 0)}"
    return [(f"{took:>9}", ""), (f"{fit(tokens, 10):>10} ", "dim")]


def _short(number: int) -> str:
    return f"{number}" if number < 10_000 else f"{number / 1000:.0f}k" if number < 1_000_000 else f"{number / 1e6:.1f}M"


def _bar(row: Row, scale: Scale, width: int) -> Sequence[tuple[str, str]]:
    """The row's bar in cells. What is known to be waiting is pale; of what is shorter than a cell there is one."""
    if row.start is None:
        return []
    first = min(int(scale.at(row.start) * width), width - 1)
    if row.end is None and not row.open:
        return [(" " * first, ""), (BEGAN, _style(row))]
    last = width if row.end is None else max(first + 1, round(scale.at(row.end) * width))
    cells = [BARS[row.kind]] * (last - first)
    if row.kind not in ("question", "step"):
        for start, end in row.waits:
            for cell in range(round(scale.at(start) * width), round(scale.at(end) * width)):
                if first <= cell < last:
                    cells[cell - first] = WAIT
    for cut in scale.cuts:
        for cell in range(max(first + 1, int(cut.left * width)), min(last, int(cut.right * width))):
            cells[cell - first] = CUT
    if row.open:
        cells[-1] = OPEN
    return [(" " * first, ""), ("".join(cells), "red" if row.failed else COLOURS.get(row.kind, ""))]


def _axis(scale: Scale, width: int) -> str:
    """The marks, each beginning above its moment, as far as they have room."""
    line = ""
    marks = [*((mark.at, mark.label) for mark in scale.marks(max(2, width // 9)))]
    marks += [(cut.right, moment(cut.end, 1000)) for cut in scale.cuts]
    for at, label in sorted(marks):
        place = int(at * width)
        if (not line or place > len(line)) and place + len(label) <= width:
            line = line.ljust(place) + label
    return line
