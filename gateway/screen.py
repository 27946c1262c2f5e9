"""What people see: answers and data on standard output, everything about them on standard error.

Rich looks after terminals, their width and NO_COLOR; elsewhere the text is plain.
"""

import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import typer
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

R = TypeVar("R")

OUT = Console(highlight=False, markup=False, emoji=False)
ERR = Console(highlight=False, markup=False, emoji=False, stderr=True)

LINE = 200
"""Cells of one line where there is no terminal to fit."""
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What could move the cursor, colour or turn around what others have written. Tabs and line ends may stay."""


def emit(data: Any) -> None:
    """Print data as one line of JSON, in UTF-8 whatever the terminal speaks."""
    typer.echo(msgspec.json.encode(data))


def answer(text: str) -> None:
    """Print an answer: as it is for programs, without control characters on a terminal."""
    typer.echo(harmless(text) if sys.stdout.isatty() else text, nl=not text.endswith("\n"))


def note(text: str, style: str = "") -> None:
    """Print a line about what happens, on standard error."""
    ERR.print(harmless(text), style=style, soft_wrap=True)


def listed(found: list[R], table: Callable[[list[R]], Any], *, as_json: bool, without: str) -> None:
    """Print what was found: as JSON, as a table for people, or as a note where there is nothing."""
    if as_json:
        emit(found)
    elif found:
        OUT.print(table(found))
    else:
        note(without)


def harmless(text: str) -> str:
    """Text that can't do anything to a terminal, whoever wrote it."""
    return _CONTROLS.sub("·", text)


def line(text: str, less: int = 0, console: Console = ERR) -> str:
    """Text as one line that fits the terminal beside `less` other cells; Chinese characters take two each."""
    return fit(text, max((console.width if console.is_terminal else LINE) - less, 20))


def fit(text: str, room: int) -> str:
    """Text as one line of at most `room` cells."""
    flat = harmless(" ".join(text[: 4 * room].split()))
    return flat if cell_len(flat) <= room else set_cell_size(flat, room - 1) + "…"


def ending(text: str, less: int = 0) -> str:
    """The end of a text, as much of it as fits a line of the terminal beside `less` other cells."""
    return fit_end(text, max(ERR.width - less, 20))


def fit_end(text: str, room: int) -> str:
    """The end of a text, as one line of at most `room` cells."""
    flat = harmless(" ".join(text[-4 * room :].split()))
    while cell_len(flat) > room:
        flat = flat[max(1, (cell_len(flat) - room) // 2) :]
    return flat


def styled(*parts: str | tuple[str, str]) -> Text:
    """Text of (text, style) parts, harmless."""
    return Text.assemble(*[harmless(p) if isinstance(p, str) else (harmless(p[0]), p[1]) for p in parts])
