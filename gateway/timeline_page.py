"""A timeline as one page that needs nothing else: no script, no style, font or picture from elsewhere, and it forbids
the browser to fetch any. Pure: whatever was said in a run stays text."""

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from pathlib import Path
from string import Template
from typing import get_args

from consumers.runs.timeline import Kind, Row, Timeline
from gateway.scale import Scale, moment, span
from gateway.screen import harmless

PAGE = Template(Path(__file__).with_name("timeline.html").read_text(encoding="utf-8"))
STYLE = Path(__file__).with_name("timeline.css").read_text(encoding="utf-8")
HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
KINDS: tuple[Kind, ...] = get_args(Kind)
PLURAL = {"stage": "stages", "step": "steps", "model": "models", "tool": "tools", "call": "look-ups"}
NAMES = {**PLURAL, "question": "questions", "delegation": "other agents"}
ROWS = 20_000
"""More than a browser can show."""
MARKS = 10
DEEPEST = 3


def page(timeline: Timeline) -> str:
    """The page, in HTML."""
    scale, rows = Scale(timeline), timeline.rows[:ROWS]
    depths = timeline.depths({row.id for row in rows if not row.minor})
    numbers = {row.id: number for number, row in enumerate(rows)}
    drawn = [_row(row, depths[row.id], scale, numbers) for row in rows]
    if len(rows) < len(timeline.rows):
        drawn.append(f'<p class="left">{len(timeline.rows) - ROWS:,} more rows: --json has them.</p>')
    return PAGE.substitute(
        hash=HASH,
        style=STYLE,
        title=f"{_text(timeline.goal[:60])} · Victoria",
        run=_text(timeline.run),
        goal=_text(timeline.goal) or "(its goal is not known)",
        facts="".join(
            f'<div class="{name}"><dt>{what}</dt><dd>{_text(fact)}</dd></div>' for name, what, fact in _facts(timeline)
        ),
        said="\n".join(_said(timeline)),
        legend="\n".join(_legend(timeline)),
        marks="".join(_marks(scale)),
        grid="".join(_grid(scale)),
        rows="\n".join(drawn),
    )


def _text(text: str) -> str:
    """Text that is nothing but text, in HTML and in its attributes."""
    return escape(harmless(text))


def _facts(timeline: Timeline) -> Iterator[tuple[str, str, str]]:
    yield timeline.status, "status", timeline.status
    ended = timeline.end is not None
    yield "", "took" if ended else "so far", span(timeline.end if ended else timeline.until)
    yield "", "model calls", f"{len(timeline.all('model')):,}"
    yield "", "tokens in", f"{timeline.tokens_in:,}"
    yield "", "tokens out", f"{timeline.tokens_out:,}"
    yield "", "tools used", f"{len(timeline.all('tool')):,}"
    if again := sum(len(row.tries) for row in timeline.rows):
        yield "", "tried again", f"{again:,}"
    if timeline.method:
        yield "", "method", timeline.method
    if timeline.began:
        yield "", "began", f"{timeline.began:%Y-%m-%d %H:%M:%S} UTC"


def _said(timeline: Timeline) -> Iterator[str]:
    if error := timeline.error:
        yield f'<p class="said error">{_text(f"{error.message} [{error.code}] {error.hint}")}</p>'
    for each in timeline.missing:
        yield f'<p class="said">Missing: {_text(each)}</p>'
    for each in timeline.notes:
        yield f'<p class="said">{_text(each)}</p>'


def _legend(timeline: Timeline) -> Iterator[str]:
    """Which kinds of rows there are; each can be left out."""
    for kind in KINDS:
        if number := len(timeline.all(kind)):
            yield _choice(kind, NAMES[kind], number, shown=True)
    if number := sum(row.minor for row in timeline.rows):
        yield _choice("minor", "book-keeping too", number, shown=False)


def _choice(kind: str, name: str, number: int, *, shown: bool) -> str:
    mark = "" if kind == "minor" else "<i></i>"
    box = f'<input type="checkbox" id="show-{kind}"{" checked" * shown} autocomplete="off">'
    return f'<label class="{kind}">{box}{mark}{name} <b>{number:,}</b></label>'


def _marks(scale: Scale) -> Iterator[str]:
    """What the axis says."""
    for mark in scale.marks(MARKS):
        place = "begin" if mark.at < 0.02 else "last" if mark.at > 0.97 else ""
        yield f'<text x="{_part(mark.at)}" y="12" class="{place}">{mark.label}</text>'
    for cut in scale.cuts:
        yield f'<text x="{_part((cut.left + cut.right) / 2)}" y="12">⋯{span(cut.end - cut.start)}⋯</text>'


def _grid(scale: Scale) -> Iterator[str]:
    for mark in scale.marks(MARKS):
        yield f'<line x1="{_part(mark.at)}" x2="{_part(mark.at)}" y1="0" y2="100%"/>'
    for cut in scale.cuts:
        yield f'<rect x="{_part(cut.left)}" width="{_part(cut.right - cut.left)}" height="100%"/>'


def _row(row: Row, depth: int, scale: Scale, numbers: dict[str, int]) -> str:
    looks = ["row", row.kind, f"d{min(depth, DEEPEST)}"]
    looks += ["bad"] * row.failed + ["minor"] * row.minor + ["never"] * (row.start is None)
    tries = f"<em>×{row.attempts}</em>" if (row.attempts or 1) > 1 else ""
    about = row.model if row.kind == "model" else row.title
    tokens = "" if row.tokens_in is None else f"{row.tokens_in:,} + {row.tokens_out or 0:,}"
    took = row.status if row.start is None else "open" if row.open else span(row.took)
    name = f'<span dir="auto">{_text(row.name)}<small>{_text(about)}</small></span>'
    details = "".join(f"<div{wide}><dt>{what}</dt><dd>{said}</dd></div>" for what, said, wide in _details(row, numbers))
    return (
        f'<details class="{" ".join(looks)}" id="r{numbers[row.id]}">'
        f'<summary><span class="name"><i></i>{name}{tries}</span><span class="tokens">{tokens}</span>'
        f'<span class="took">{_text(took)}</span><svg class="bar" role="presentation">{"".join(_bar(row, scale))}</svg>'
        f"{_why(row)}</summary><dl>{details}</dl></details>"
    )


def _why(row: Row) -> str:
    """Why something failed, for all to see; of what a step went on from, its details say it."""
    if not (row.failed and row.error and row.kind in ("step", "stage")):
        return ""
    return f'<span class="why">{_text(f"{row.error.message} [{row.error.code}]")}</span>'


def _bar(row: Row, scale: Scale) -> Iterator[str]:
    if row.start is None:
        return
    start = scale.at(row.start)
    if row.end is None and not row.open:
        yield f'<circle cx="{_part(start)}" cy="50%" r="3.5"/>'
        return
    end = 1.0 if row.end is None else scale.at(row.end)
    high = 'y="30%" height="40%"' if row.kind == "step" else 'y="0" height="100%"'
    look = ' class="part"' if row.kind in ("stage", "question", "call") or row.open else ""
    yield f'<rect{look} x="{_part(start)}" width="{_part(max(end - start, 0.0001))}" {high} rx="2"/>'
    if row.kind not in ("step", "question"):
        for a, b in row.waits:
            where = f'x="{_part(scale.at(a))}" width="{_part(scale.at(b) - scale.at(a))}" y="0" height="100%"'
            yield f'<rect class="wait" {where}/><rect class="hatched" {where}/>'
    if row.open:
        yield '<svg x="100%" overflow="visible"><path d="M-1 0L6 6.8L-1 13.6z"/></svg>'
    for each in row.tries:
        yield f'<rect class="try" x="{_part(scale.at(each.at))}" width="0.2%" y="0" height="100%"/>'


def _part(part: float) -> str:
    return f"{100 * part:.3f}%"


def _details(row: Row, numbers: dict[str, int]) -> Iterator[tuple[str, str, str]]:
    """What is known of a row: its name, in HTML, and how it is laid out."""
    wide = ' class="wide"'
    if row.title:
        yield {"question": "asked", "stage": "event"}.get(row.kind, "about"), _text(row.title), wide
    if row.error:
        yield "error", _text(f"{row.error.message} [{row.error.code}] {row.error.hint}".strip()), wide
    for each in row.tries:
        why = f"{each.error.message} [{each.error.code}]"
        yield f"try {each.attempt} failed", f"at {moment(each.at)}: {_text(why)}", wide
    yield "status", _text(row.status), ""
    if row.start is not None:
        yield (
            "from – to",
            f"{moment(row.start)} – {'open' if row.open else '?' if row.end is None else moment(row.end)}",
            "",
        )
    if row.working is not None:
        yield "at work", span(row.working), ""
    if row.waits:
        yield "waiting", span(sum(end - start for start, end in row.waits)), ""
    if row.start is not None and row.kind in ("stage", "step", "model"):
        yield "attempts", "?" if row.attempts is None else f"{row.attempts}", ""
    if row.tokens_in is not None:
        yield (
            "tokens",
            f"{row.tokens_in:,} in, {row.tokens_cached or 0:,} of them cached; {row.tokens_out or 0:,} out",
            "",
        )
    for what, said in (("model", row.model), ("node", row.node), ("expert", row.expert)):
        if said:
            yield what, _text(said), ""
    if row.cause:
        number = numbers.get(row.cause.row)
        event = _text(f"{row.cause.type or 'an event'} {row.cause.event[:12]}")
        yield "because of", event if number is None else f'<a href="#r{number}">{event}</a>', ""
