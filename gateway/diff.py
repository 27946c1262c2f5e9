"""Two texts as a diff that fits a terminal: of a long line what is different is shown, wherever in it that is."""

from collections.abc import Sequence
from difflib import unified_diff
from itertools import takewhile

from rich.text import Text

from gateway.screen import LINE, OUT, line, styled

LINES = 60
"""Of one diff."""
AHEAD = 20
"""Characters of what is the same that are left in front of a difference."""
COLOURS = {"-": "red", "+": "green"}


def diff(one: Sequence[str], other: Sequence[str]) -> list[Text]:
    """The lines to print, harmless, and each fit to the screen."""
    if len(one) <= 1 and len(other) <= 1:
        found = [*(f"- {text}" for text in one), *(f"+ {text}" for text in other)]
    else:
        found = [text for text in unified_diff(one, other, n=1, lineterm="") if not text.startswith(("---", "+++"))]
    room = OUT.width if OUT.is_terminal else LINE
    return [styled((line(text, console=OUT), COLOURS.get(text[:1], ""))) for text in near(found, room)[:LINES]]


def near(lines: Sequence[str], room: int) -> list[str]:
    """The lines of a diff, where those that replace each other and are longer than `room` begin shortly before they
    differ."""
    found: list[str] = []
    while len(found) < len(lines):
        rest = lines[len(found) :]
        old = list(takewhile(lambda text: text.startswith("-"), rest))
        new = list(takewhile(lambda text: text.startswith("+"), rest[len(old) :]))
        if not old and not new:
            found.append(rest[0])
            continue
        pairs = [_from_difference(*pair, room) for pair in zip(old, new, strict=False)]
        found += [*(before for before, _ in pairs), *old[len(pairs) :]]
        found += [*(after for _, after in pairs), *new[len(pairs) :]]
    return found


def _from_difference(before: str, after: str, room: int) -> tuple[str, str]:
    same = next((at for at, (one, other) in enumerate(zip(before[1:], after[1:], strict=False)) if one != other), None)
    cut = 1 + (min(len(before), len(after)) - 1 if same is None else same) - AHEAD
    if max(len(before), len(after)) <= room or cut <= AHEAD:
        return before, after
    return f"- …{before[cut:]}", f"+ …{after[cut:]}"
