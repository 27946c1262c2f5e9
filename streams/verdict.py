"""How a stage gets on, decided purely from a window of measures."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from streams.lag import Measure

Verdict = Literal["ok", "falling behind", "stalled", "stopped", "unknown"]
STILL = 0.5
"""Seconds of a window after which standing still means something."""
LATE = 1.0
"""Seconds that entries may wait without the stage being behind."""


class Rates(msgspec.Struct, frozen=True):
    """Entries a second that came, and that were finished or put off; None where that can't be known. `eta` is in how
    many seconds nothing is left if this goes on; None where it does not get less."""

    into: float | None = None
    out: float | None = None
    eta: float | None = None


def comparable(window: Sequence[Measure]) -> Sequence[Measure]:
    """The end of a window within which the server was not wiped and its clock not put back."""
    for place in range(len(window) - 1, 0, -1):
        earlier, later = window[place - 1], window[place]
        if later.added < earlier.added or later.at <= earlier.at:
            return window[place:]
    return window


def rates(window: Sequence[Measure]) -> Rates:
    """How fast things came and went, over the window."""
    window = comparable(window)
    first, last = window[0], window[-1]
    if last.at == first.at:
        return Rates()
    seconds, came = last.at - first.at, last.added - first.added
    left, before = last.unfinished.known, first.unfinished.known
    if left is None or before is None:
        return Rates(came / seconds)
    went = max(came + before - left, 0)
    return Rates(came / seconds, went / seconds, left * seconds / (went - came) if left and went > came else None)


def verdict(window: Sequence[Measure], patience: float) -> Verdict:
    """How a stage gets on. `patience` is how long in seconds one entry may be in hand.

    `stopped`: something is to be done, and nobody is there. `stalled`: somebody is, and nothing moves; a worker that
    has had an entry in hand for less than `patience` may well be at it. `falling behind`: what waits for longer than a
    second gets more. `unknown`: something waits, and the window is too short to tell more.
    """
    window = comparable(window)
    first, last = window[0], window[-1]
    if last.oldest is None:
        return "ok"
    if last.consumers == 0:
        return "stopped"
    if last.at - first.at < STILL:
        return "unknown"
    waits = last.undelivered.least > 0 and last.oldest >= LATE
    if all(each.mark == last.mark for each in window):
        idle = not last.pending and last.oldest >= max(LATE, last.at - first.at)
        if idle or last.held > patience:
            return "stalled"
    grows = (last.unfinished.known or last.unfinished.least) > (first.unfinished.known or first.unfinished.least)
    return "falling behind" if waits and grows else "ok"
