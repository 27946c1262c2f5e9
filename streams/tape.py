"""A run as it was recorded: its events, its journal, its last states and its dead letters; in memory, or as a file.

A file is JSON lines, one thing a line, for people too: it holds what the streams and the journal held, nothing else. It
can be replayed where there is neither a server nor a model.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from schemas.envelope import EVENT_BYTES
from schemas.errors import InvalidInput
from streams.outcome import DeadLetter, Try

VERSION = 1
"""Of the file's form."""
LINE_BYTES, FILE_BYTES = 2 * EVENT_BYTES, 512 * 1024 * 1024
"""A line, and a file, may have this size at most."""


class _Line(msgspec.Struct, frozen=True, tag_field="line", omit_defaults=True):
    pass


class Head(_Line, frozen=True, tag="run"):
    """Whose tape it is. `settings` are those that its stages were made with, `missing` what was not there any more, and
    `perhaps` what may have been."""

    format: Literal["victoria run"]
    version: int
    run: str
    settings: dict[str, str] = {}
    missing: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()


class Entry(_Line, frozen=True, tag="event"):
    """One entry of a stream. `arrived` is when it first came on its stream, ms since 1970, where a retry put it back
    later; 0 where its own id says so. Then `attempt` counts its handlings, 0 where that is not known, and `history` has
    those that failed."""

    stream: str
    id: str
    type: str
    event: msgspec.Raw
    arrived: int = 0
    attempt: int = 1
    history: tuple[Try, ...] = ()


class Effect(_Line, frozen=True, tag="effect"):
    """One record of the journal."""

    effect: str
    record: msgspec.Raw


class State(_Line, frozen=True, tag="state"):
    """What a stage last knew of the run."""

    stage: str
    version: int
    data: msgspec.Raw


class Letter(_Line, frozen=True, tag="letter"):
    """One of the run's dead letters."""

    letter: DeadLetter


class Tape(msgspec.Struct):
    """A whole run. `missing` says what is known to have been there, and is not any more; `perhaps`, where else
    there may have been something of it."""

    run: str
    entries: list[Entry] = []
    effects: dict[str, bytes] = {}
    states: dict[str, State] = {}
    letters: list[DeadLetter] = []
    missing: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()
    settings: dict[str, str] = {}

    def lines(self) -> Iterator[bytes]:
        """The lines of its file."""
        yield _line(Head("victoria run", VERSION, self.run, self.settings, self.missing, self.perhaps))
        yield from map(_line, self.entries)
        for effect, record in self.effects.items():
            yield _line(Effect(effect, msgspec.Raw(record)))
        yield from map(_line, self.states.values())
        for letter in self.letters:
            yield _line(Letter(letter))

    def save(self, path: Path) -> None:
        """Write its file. Raises OSError."""
        with path.open("wb") as file:
            file.writelines(self.lines())

    @classmethod
    def load(cls, path: Path) -> "Tape":
        """Read a file. Raises InvalidInput `tape.unreadable`, `tape.malformed`, `tape.newer` or `tape.too_large`."""
        try:
            if path.stat().st_size > FILE_BYTES:
                raise InvalidInput("tape.too_large", f"{path} has more than {FILE_BYTES:,} bytes.", "It is no run.")
            with path.open("rb") as file:
                return cls.read(iter(lambda: file.readline(LINE_BYTES), b""), str(path))
        except OSError as problem:
            raise InvalidInput("tape.unreadable", f"{path} can't be read: {problem.strerror}.", "") from problem

    @classmethod
    def read(cls, lines: Iterable[bytes], name: str) -> "Tape":
        """A tape from its lines. Raises InvalidInput, as `load`."""
        tape: Tape | None = None
        for number, line in enumerate(lines, 1):
            try:
                said = _decode(line)
                if tape is None:
                    tape = cls._begun(said)
                else:
                    tape.add(said)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as problem:
                raise _malformed(f"{name}, line {number}, is none of a run's: {problem}") from problem
        if tape is None:
            raise _malformed(f"{name} is empty")
        return tape

    @classmethod
    def _begun(cls, head: Any) -> "Tape":
        if not isinstance(head, Head):
            raise _malformed(f"it begins with a line of {type(head).__name__}")
        if head.version > VERSION:
            raise InvalidInput(
                "tape.newer", f"The file has version {head.version}; this program knows up to {VERSION}.", "Upgrade it."
            )
        return cls(head.run, missing=head.missing, perhaps=head.perhaps, settings=head.settings)

    def add(self, said: Any) -> None:
        """Add what one line says. Raises InvalidInput where that is no part of a run."""
        match said:
            case Entry():
                self.entries.append(said)
            case Effect():
                self.effects[said.effect] = bytes(said.record)
            case State():
                self.states[said.stage] = said
            case Letter():
                self.letters.append(said.letter)
            case _:
                raise _malformed("it begins twice")


_decode = msgspec.json.Decoder(Head | Entry | Effect | State | Letter).decode


def _line(said: _Line) -> bytes:
    return msgspec.json.encode(said) + b"\n"


def _malformed(problem: str) -> InvalidInput:
    return InvalidInput("tape.malformed", f"This is no saved run: {problem}.", "`victoria replay RUN --save FILE`.")
