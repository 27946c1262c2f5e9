"""What patterns of rules.toml found in a goal, as arguments of a call to notes or the calendar.

Only what surely is an argument, and all of it, is taken: a further request is no part of a note, a day that was not
said is not today, and what comes every week is no single entry.
"""

import re
from datetime import UTC, date, datetime

from consumers.tools import dates
from consumers.words.phrases import RULES, Quotes, pattern
from schemas.errors import ToolRefused

_SEQUENCE = pattern(RULES.parts.sequence)
_REQUEST, _ACTION = pattern(RULES.said.request), pattern(RULES.categories.action)
_NAME, _COURTESY = pattern(RULES.said.name), pattern(RULES.said.courtesy)
_REFUSED = {name: pattern(text) for name, text in RULES.said.refused.items()}
_NOW, _ELSEWHERE = datetime(2026, 1, 15, 12, tzinfo=UTC), date(2026, 8, 15)
_MOST_PARTS = 40


def said(quotes: Quotes, found: re.Match[str], always: dict[str, str], tail: str) -> dict[str, str] | None:
    """The arguments of a call, `always` among them; None where one of them is not sure.

    `tail` is what was cut off behind the text: it belongs to a note's own words.
    """
    given: dict[str, str] = {}
    for name, masked in found.groupdict().items():
        if masked is None:
            continue
        text = _COURTESY.sub("", masked + tail) if name == "text" else masked
        given[name] = (quotes.inside(text) or quotes.restored(text)).strip()
        refused = name in _REFUSED and _REFUSED[name].search(masked + tail)
        if refused or not given[name] or not _is_sure(name, text, given[name]):
            return None
    filled = {name: _filled(template, given) for name, template in always.items()}
    return {name: text for name, text in (given | filled).items() if name not in _PARTS}


_PARTS = {"what"}
"""Groups that only stand in templates."""


def _filled(template: str, given: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda m: given[m[1]], template)


def _is_sure(name: str, masked: str, text: str) -> bool:
    match name:
        case "start":
            return _is_moment(text)
        case "day":
            return _is_day(text)
        case "end":
            return dates.duration(text) is not None
        case _:
            return _is_one(name, masked)


def _is_one(name: str, masked: str) -> bool:
    """Whether this is one thing, with nothing else asked for behind it."""
    _, *further = _SEQUENCE.split(masked, _MOST_PARTS)
    if len(further) == _MOST_PARTS or any(_REQUEST.match(part) or _ACTION.match(part) for part in further):
        return False
    return name == "text" or all(map(_NAME.match, further))


def _is_moment(text: str) -> bool:
    """Whether both a day and a time are said."""
    try:
        found = dates.moment(text, _NOW, _ELSEWHERE)
    except ToolRefused:
        return False
    return isinstance(found, datetime) and found.date() != _ELSEWHERE


def _is_day(text: str) -> bool:
    """Whether a day, or several, are said, and no time."""
    try:
        return dates.days(text, _NOW).minutes is None
    except ToolRefused:
        return False
