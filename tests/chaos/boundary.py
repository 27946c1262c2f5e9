"""A proxy that knows where a worker is by the commands it sends, and kills it exactly there.

Counted where every command must pass, so a worker's code need not be touched, nor known: whatever client it uses and
however it bundles commands, it dies before its n-th command of a meaning reaches the server, or after the server has
carried it out and before the worker hears of it.
"""

import os
import signal
from collections import Counter, deque
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast

import hiredis

from tests.chaos.proxy import Link, Proxy

When = Literal["before", "after"]
SETUP = frozenset({b"HELLO", b"AUTH", b"CLIENT", b"SELECT", b"PING"})
"""What a connection begins with, of no meaning for a run."""
NOTHING_YET = object()


@dataclass(frozen=True, slots=True)
class Boundary:
    """Before or after the n-th (from 1) command of a meaning."""

    meaning: str
    number: int
    when: When


def _scripts() -> dict[bytes, str]:
    folder = files("streams") / "scripts"
    texts = {path.name.removesuffix(".lua"): path.read_bytes() for path in folder.iterdir() if ".lua" in path.name}
    return {sha1(text).hexdigest().encode(): name for name, text in texts.items()}


SCRIPTS = _scripts()


def meaning(command: list[bytes]) -> str:
    """What a command is for, "" for a connection's own matters. One that isn't known stands under its own name."""
    match [command[0].upper(), *command[1:]]:
        case [b"EVALSHA", sha, *words]:
            name = SCRIPTS.get(sha.lower(), "script")
            return _of_records(words) if name == "record" else "question" if name == "append_once" else name
        case [b"XREADGROUP", *_, after]:
            return "read" if after == b">" else "read again"
        case [b"PUBLISH", *_]:
            return "hint"
        case [b"XINFO" | b"XGROUP", *_]:
            return "group"
        case [b"SET", *_]:
            return "turn"
        case [name, *_]:
            return "" if name in SETUP else name.decode().lower()
        case _:
            return ""


def _of_records(words: list[bytes]) -> str:
    """What scripts/record.lua is called for; of several requests in one call, the one that changes most."""
    count = int(words[0])
    keys, rest = words[1 : count + 1], words[count + 1 :]
    found: set[str] = set()
    while rest:
        key, value, fields = keys[int(rest[0]) - 1], rest[1], rest[3 : 3 + int(rest[2])]
        if b":journal:" not in key:
            found.add("state")
        elif not value:
            found.add("journal")
        else:
            found.add("intent" if fields[0].endswith(b"!") else "record")
        rest = rest[3 + len(fields) :]
    return next(name for name in ("record", "intent", "journal", "state") if name in found)


class BoundaryProxy(Proxy):
    """Kills `victim` (a process id) at its boundary, and lets nothing through from then on.

    `answered` counts the commands that were carried out and answered, by meaning.
    """

    def __init__(self, server: Path, boundary: Boundary | None = None) -> None:
        super().__init__(server)
        self.victim = 0
        self.sprung = False
        self.answered: Counter[str] = Counter()
        self._boundary = boundary
        self._sent: Counter[str] = Counter()
        self._talks: dict[Link, _Talk] = {}

    async def upward(self, link: Link, data: bytes) -> bytes:
        """Whole commands, up to the boundary."""
        talk = self._talks.setdefault(link, _Talk())
        passed: list[bytes] = []
        for command in talk.commands(data):
            name = meaning(command)
            self._sent[name] += 1
            if self.sprung or self._is_here(name, self._sent[name], "before"):
                self._spring()
                break
            talk.awaited.append((name, self._sent[name]))
            passed.append(cast("Any", hiredis).pack_command(tuple(command)))
        return b"".join(passed)

    async def downward(self, link: Link, data: bytes) -> bytes:
        """Answers, up to the boundary."""
        talk = self._talks[link]
        for name, number in talk.answers(data):
            self.answered[name] += 1
            if self._is_here(name, number, "after"):
                self._spring()
        return b"" if self.sprung else data

    def _is_here(self, name: str, number: int, when: When) -> bool:
        return self._boundary == Boundary(name, number, when)

    def _spring(self) -> None:
        if not self.sprung:
            self.sprung = True
            os.kill(self.victim, signal.SIGKILL)


class _Talk:
    """One connection: what was sent and is not answered yet."""

    def __init__(self) -> None:
        self._up: Any = cast("Any", hiredis).Reader(notEnoughData=NOTHING_YET)
        self._down: Any = cast("Any", hiredis).Reader(notEnoughData=NOTHING_YET)
        self.awaited: deque[tuple[str, int]] = deque()

    def commands(self, data: bytes) -> list[list[bytes]]:
        """The commands that are whole now."""
        return self._whole(self._up, data)

    def answers(self, data: bytes) -> list[tuple[str, int]]:
        """Which commands are answered now; messages of a subscription answer none."""
        return [self.awaited.popleft() for _ in self._whole(self._down, data) if self.awaited]

    @staticmethod
    def _whole(reader: Any, data: bytes) -> list[Any]:
        reader.feed(data)
        found: list[Any] = []
        while (each := reader.gets()) is not NOTHING_YET:
            found.append(each)
        return found
