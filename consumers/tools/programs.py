"""Which programs agents may run, and with which options: the list is of what is known to only look.

A program is safe only with its options: `sort -o` writes, `find -exec` runs others, `tail -f` never ends. So options
are allowed by name, abbreviations are not, and all else is refused. Programs that a user adds run with any options,
but in the sandbox only; there what they could do ends with them.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from schemas.errors import ToolRefused

FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin", "/opt/homebrew/bin")
"""Where programs are looked for: not in PATH, which may begin with a folder of the project."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a program may be called with.

    `short` has the letters of options, one that takes a value with a `:` behind (as for getopt); `long` the names of
    those with two dashes, one that takes a value with a `=` behind, where it has to stand in the call too; `words`
    those of one dash, as find has them, again with `=` for a value, which is the next argument. `operands` is how many
    other arguments there may be; all begin with `begin`. `files` says that it reads files by name: only the sandbox
    confines that.
    """

    short: str = ""
    long: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    operands: int = 32
    begin: str = ""
    files: bool = True


BOUNDED: Mapping[str, Bounds] = {
    "basename": Bounds("as:z", files=False),
    "cat": Bounds("AbeEnstTuv", ("number", "show-all", "squeeze-blank")),
    "cksum": Bounds(),
    "cmp": Bounds("bi:ln:s"),
    "comm": Bounds("123z"),
    "cut": Bounds("b:c:d:f:nsz", ("delimiter=", "fields=", "characters=", "complement", "only-delimited")),
    "date": Bounds("uRI", ("utc",), operands=1, begin="+", files=False),
    "diff": Bounds("abBcdiNqrsuU:wy", ("brief", "unified=", "recursive", "ignore-all-space", "side-by-side")),
    "dirname": Bounds("z", files=False),
    "du": Bounds("abcd:hkms", ("apparent-size", "bytes", "human-readable", "max-depth=", "summarize", "total")),
    "echo": Bounds("n", files=False),
    "file": Bounds("bi", ("brief", "mime", "mime-type")),
    "find": Bounds(
        words=(
            *("name=", "iname=", "path=", "ipath=", "regex=", "type=", "size=", "mtime=", "mmin=", "newer=", "empty"),
            *("maxdepth=", "mindepth=", "prune", "not", "a", "and", "o", "or", "true", "false", "print", "ls"),
        )
    ),
    "grep": Bounds(
        "abcEe:FGHhiLlm:noqrsvwxA:B:C:",
        (
            *("include=", "exclude=", "exclude-dir=", "max-count=", "regexp=", "count", "recursive", "ignore-case"),
            *("extended-regexp", "fixed-strings", "line-number", "files-with-matches", "invert-match", "word-regexp"),
            *("after-context=", "before-context=", "context=", "with-filename", "no-filename", "only-matching"),
        ),
    ),
    "head": Bounds("c:n:qvz0123456789", ("lines=", "bytes=", "quiet", "verbose")),
    "ls": Bounds(
        "1aAbBCdFghHiklLmnopqQrRsStuUvxXZ",
        ("all", "almost-all", "directory", "full-time", "human-readable", "recursive", "reverse", "size", "sort="),
    ),
    "md5sum": Bounds("b"),
    "nl": Bounds("b:s:v:w:n:"),
    "nproc": Bounds(long=("all",), operands=0, files=False),
    "sha256sum": Bounds("b"),
    "sort": Bounds("bdfghik:MnrRst:uVz", ("key=", "field-separator=", "numeric-sort", "reverse", "unique")),
    "stat": Bounds("c:Lt", ("format=", "printf=", "terse")),
    "tail": Bounds("c:n:qvz0123456789", ("lines=", "bytes=", "quiet", "verbose")),
    "uname": Bounds("amnoprsv", ("all",), operands=0, files=False),
    "uniq": Bounds("cdf:is:uw:z", ("count", "repeated", "unique", "ignore-case"), operands=1),  # a 2nd is written
    "wc": Bounds("clLmw", ("bytes", "chars", "lines", "words", "max-line-length")),
}


@dataclass(frozen=True, slots=True)
class Program:
    """One that may run, its arguments checked: its file, whether only in the sandbox, and whether it is `bounded` to
    what is known to only look, and to start no others."""

    path: Path
    sandboxed: bool
    bounded: bool


def allowed_program(argv: tuple[str, ...], programs: Iterable[str], workspace: Path) -> Program:
    """The program that `argv` names, if it and its options are allowed.

    `programs` are names, or absolute paths whose last part is the name. Raises ToolRefused `command.unknown`,
    `command.option`, `command.arguments`, `command.missing`, `command.project`, `command.invalid`.
    """
    for word in argv:
        if "\0" in word or any("\ud800" <= c <= "\udfff" for c in word):
            raise ToolRefused("command.invalid", "An argument holds a NUL, or is no Unicode.", "Write it as text.")
    name, *words = argv
    known = {Path(entry).name: entry for entry in programs}
    if (entry := known.get(name)) is None:
        near = get_close_matches(name[:80], known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Programs: {', '.join(known)}. The setting `programs` has them."
        raise ToolRefused("command.unknown", f"The program {name[:80]!r} is not allowed.", hint)
    bounds = BOUNDED.get(name)
    if bounds:
        _check(name, bounds, words)
    return Program(_found(entry, workspace), sandboxed=bounds is None or bounds.files, bounded=bounds is not None)


def _check(name: str, bounds: Bounds, words: list[str]) -> None:
    operands = list(_operands(name, bounds, iter(words)))
    if len(operands) > bounds.operands:
        raise ToolRefused(
            "command.arguments",
            f"{name} gets {len(operands)} arguments; {bounds.operands} at most can be given here.",
            "Leave some out.",
        )
    for operand in operands:
        if not operand.startswith(bounds.begin):
            raise ToolRefused(
                "command.arguments",
                f"{name} can't be given {operand[:80]!r} here.",
                f"An argument begins with {bounds.begin}",
            )


def _operands(name: str, bounds: Bounds, words: Iterator[str]) -> Iterator[str]:
    """The arguments that are no options, once each option is allowed."""
    for word in words:
        if word == "--" and not bounds.words:
            yield from words
        elif not word.startswith("-") or word == "-":
            yield word
        elif bounds.words:
            _word(name, bounds, word, words)
        elif word.startswith("--"):
            _long(name, bounds, word)
        else:
            _short(name, bounds, word, words)


def _word(name: str, bounds: Bounds, word: str, rest: Iterator[str]) -> None:
    if f"{word[1:]}=" in bounds.words:
        next(rest, "")
    elif word[1:] not in bounds.words:
        raise _refused(name, word)


def _long(name: str, bounds: Bounds, word: str) -> None:
    option, equals, _ = word[2:].partition("=")
    if f"{option}{equals}" not in bounds.long:
        raise _refused(name, word)


def _short(name: str, bounds: Bounds, word: str, rest: Iterator[str]) -> None:
    letters = word[1:]
    for position, letter in enumerate(letters):
        if letter == ":" or letter not in bounds.short:
            raise _refused(name, word)
        if f"{letter}:" in bounds.short:  # what follows is its value
            if position == len(letters) - 1:
                next(rest, "")
            return


def _refused(name: str, option: str) -> ToolRefused:
    return ToolRefused(
        "command.option",
        f"{name} can't be used with {option[:80]!r} here.",
        "Options are written out in full, as in --lines=5; those that write, run or never end are not allowed.",
    )


def _found(entry: str, workspace: Path) -> Path:
    """The program's file: its folder is a real path; a link stays one, since some go by the name they are called."""
    candidates = [entry] if "/" in entry else [f"{folder}/{entry}" for folder in FOLDERS]
    for candidate in candidates:
        path = Path(os.path.realpath(os.path.dirname(candidate))) / Path(candidate).name  # noqa: PTH120
        real = Path(os.path.realpath(path))
        if not (path.is_absolute() and real.is_file() and os.access(real, os.X_OK)):
            continue
        if any(each.is_relative_to(os.path.realpath(workspace)) for each in (path, real)):
            raise ToolRefused(
                "command.project",
                f"{entry} is in the project's folder, where it may have been changed.",
                "Allow one that lies elsewhere.",
            )
        return path
    raise ToolRefused("command.missing", f"{entry} is allowed, but is not on this machine.", "Install it.")
