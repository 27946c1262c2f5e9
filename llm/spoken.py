"""Of a model's text, what it says aloud."""

import re
from typing import Literal

_OPEN, _CLOSE = "<think>", "</think>"
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL | re.IGNORECASE)


class Spoken:
    """Leaves a `<think>` block at the start out of a text that comes in pieces, however they are cut.

    Servers put thoughts into a field of their own if they know the model's habits. Some don't.
    """

    def __init__(self) -> None:
        self._state: Literal["before", "thinking", "after", "speaking"] = "before"
        self._held = ""

    def add(self, piece: str) -> str:
        """What of the text may be passed on now."""
        if self._state == "speaking":
            return piece
        self._held += piece
        if self._state == "before":
            start = self._held.lstrip()
            if start.startswith(_OPEN):
                self._state, self._held = "thinking", start.removeprefix(_OPEN)
            elif _OPEN.startswith(start):
                return ""  # it may become a block yet
            else:
                self._state = "speaking"
                return self._release()
        if self._state == "thinking":
            _, closed, rest = self._held.partition(_CLOSE)
            if not closed:
                self._held = self._held[-len(_CLOSE) :]
                return ""
            self._state, self._held = "after", rest
        self._held = self._held.lstrip()
        if self._held:
            self._state = "speaking"
        return self._release()

    def end(self) -> str:
        """The text has ended: what was held back and is no thought."""
        return "" if self._state == "thinking" else self._release()

    def _release(self) -> str:
        text, self._held = self._held, ""
        return text


def unfenced(text: str) -> str:
    """JSON without the Markdown fence that models like to put around it where nothing holds them to a schema."""
    fence = _FENCE.fullmatch(text)
    return fence[1] if fence else text
