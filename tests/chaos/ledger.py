"""What was really done outside, written where no server can forget it: a file that every process appends to.

One JSON line for each fact. A line is one write with O_APPEND, so the order of the lines is the order of the facts,
over all processes; an action's line is forced to the disk before the action counts as done. Who is killed in the midst
of a write leaves half a line, on a line of its own: that fact has not come to pass.
"""

import os
from pathlib import Path
from typing import Literal

import msgspec

Fact = Literal["begun", "done", "recorded", "unknown"]
"""begun: a handler starts. done: the action itself happened. recorded: its handler has the recorded result.
unknown: its handler was told that nobody knows whether it happened."""
Kind = Literal["none", "repeat", "unknown", "ask"]


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One fact. `handling` names one handling of one event by one process; `token` one doing of an action."""

    fact: Fact
    handling: str
    pid: int
    run: str
    key: str = ""
    kind: Kind = "repeat"
    token: str = ""


class Ledger:
    """Appends facts to a file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, line: Line) -> None:
        """Append one fact; on the disk already when it is an action."""
        os.write(self._file, b"\n" + msgspec.json.encode(line) + b"\n")
        if line.fact == "done":
            os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read(path: Path) -> list[Line]:
    """All facts in order; none if the file was never made."""
    if not path.exists():
        return []
    whole = (line for line in path.read_bytes().split(b"\n") if line.endswith(b"]"))
    return [msgspec.json.decode(line, type=Line) for line in whole]
